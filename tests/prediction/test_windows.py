"""Windows of a whole image: nothing is lost, and their scale is the scale of the pretraining."""
import numpy as np
import pytest

from mae_backbone.prediction.windows import from_windows, grid_of, magnification, to_windows


@pytest.mark.parametrize('size', [(8, 8), (1, 1), (3, 40), (16, 24), (17, 23)])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_windows_are_joined_to_the_same_image(size: tuple[int, int], channels: int):
    image = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    windows = to_windows(image, (8, 8))
    assert len(windows) == np.prod(grid_of(size, (8, 8)))
    assert np.array_equal(from_windows(windows, size), image)
    assert np.array_equal(windows[0][:size[0], :size[1]], image[:8, :8]), 'row by row from the upper left corner'


def test_magnification_is_the_mean_one_of_the_crops():
    assert magnification((100, 100), (50, 50), (1.0, 1.0)) == pytest.approx(0.5)
    assert magnification((200, 400), (64, 64), (0.02, 0.08)) == pytest.approx(64 / (0.05 * 80_000) ** 0.5)
