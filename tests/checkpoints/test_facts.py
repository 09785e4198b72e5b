"""Facts that files state about their models."""
import pytest

from mae_backbone.checkpoints.facts import facts_of

HALF = dict(image_mean=[0.5] * 3, image_std=[0.25] * 3)


@pytest.mark.parametrize(('preprocessor', 'mean', 'std'), [
    (HALF, 127.5, 63.75),
    (HALF | dict(do_rescale=True, rescale_factor=1 / 255), 127.5, 63.75),
    (HALF | dict(rescale_factor=1 / 65535), 32767.5, 16383.75),
    (HALF | dict(do_normalize=False), 0, 255),
    (HALF | dict(do_rescale=False), 127.5, 63.75),
    (dict(image_mean=[120.0] * 3, image_std=[60.0] * 3, do_rescale=False), 120, 60)])
def test_pixels_have_the_scale_that_the_preprocessor_states(preprocessor: dict, mean: float, std: float):
    facts = facts_of({}, {}, preprocessor)
    assert facts.mean == (mean,) * 3
    assert facts.std == (std,) * 3


@pytest.mark.parametrize(('size', 'expected'), [
    (32, (32, 32)), ([16, 64], (16, 64)), ((16, 64), (16, 64)), ([16], None), ('16', None), (True, None), (-2, None),
    ([0, 4], None)])
def test_image_size_is_one_number_or_two(size: object, expected: tuple | None):
    text = f"model = dict(encoder=dict(image_size={size!r}))"
    assert facts_of(dict(meta=dict(cfg=text))).image_size == expected
    assert facts_of({}, dict(image_size=size)).image_size == expected
