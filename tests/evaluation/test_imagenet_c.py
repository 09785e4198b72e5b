"""Names and mean corruption error of ImageNet-C."""
import imagecorruptions
import pytest

from mae_backbone.evaluation.imagenet_c import ALEXNET_ERRORS, CORRUPTIONS, EXTRA_CORRUPTIONS, mean_corruption_error


def test_names_equal_the_package():
    assert [*CORRUPTIONS] == imagecorruptions.get_corruption_names('all')
    assert [*ALEXNET_ERRORS] == imagecorruptions.get_corruption_names('common')
    assert [*EXTRA_CORRUPTIONS] == imagecorruptions.get_corruption_names('validation')


def test_errors_of_alexnet_round_to_the_table_of_the_paper():
    # Hendrycks and Dietterich, 2019, table 1, row AlexNet: 43.5 clean, mCE 100, then by corruption.
    assert [round(error) for error in ALEXNET_ERRORS.values()] == [89, 89, 92, 82, 83, 79, 80, 87, 83, 82, 56, 85, 65,
                                                                   72, 61]


def test_mce_is_100_for_alexnet_and_linear_in_each_error():
    assert mean_corruption_error(ALEXNET_ERRORS) == pytest.approx(100)
    halved = {name: error / 2 for name, error in ALEXNET_ERRORS.items()}
    assert mean_corruption_error({**halved, 'spatter': 99.0}) == pytest.approx(50)
    assert mean_corruption_error({**ALEXNET_ERRORS, 'fog': 0.0}) == pytest.approx(100 * 14 / 15)
    del halved['fog']
    with pytest.raises(KeyError, match='fog'):
        mean_corruption_error(halved)
