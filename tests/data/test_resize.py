"""Resizing equals PIL's filters for any depth and number of channels."""
import numpy as np
import pytest
from helpers.image_files import difference, photograph
from PIL import Image

from mae_backbone.data.resize import INTERPOLATIONS, resize


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
@pytest.mark.parametrize('size', [(32, 32), (224, 224), (100, 90), (150, 31), (1, 1)])
def test_uint8_equals_pil(interpolation, size):
    pixels = photograph(120, 160)
    for top, left, height, width in ((0, 0, 120, 160), (7, 9, 100, 90), (50, 50, 1, 9), (20, 0, 100, 33)):
        crop = Image.fromarray(pixels[top:top + height, left:left + width])
        wanted = crop.resize(size[::-1], Image.Resampling[interpolation.upper()])
        got = resize(pixels, (top, left, height, width), size, interpolation=interpolation)
        assert got.flags.c_contiguous
        assert difference(got, wanted) <= 3


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 13])
def test_channels_are_independent_and_16_bits_kept(channels):
    gray = photograph(60, 80)[..., :1]
    shifted = np.concatenate([np.roll(gray, i, axis=0) for i in range(channels)], axis=-1)
    shifted.flags.writeable = False  # as the pixels in a file's bytes are
    box, size = (5, 5, 50, 70), (24, 32)
    small, large = resize(shifted, box, size), resize(shifted * np.uint16(257), box, size)
    assert (small.shape, small.dtype) == ((24, 32, channels), np.uint8)
    assert (large.shape, large.dtype) == ((24, 32, channels), np.uint16)
    assert difference((large / 257).round(), small) <= 2
    for i in range(channels):
        np.testing.assert_array_equal(small[..., i:i + 1], resize(shifted[..., i:i + 1], box, size))


def test_16_bits_do_not_wrap_at_their_ends():
    edge = np.zeros((20, 20, 1), np.uint16)
    edge[:, 10:] = 65535
    row = resize(edge, (0, 0, 20, 20), (20, 33))[0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()


def test_result_goes_to_out_and_never_shares_memory():
    pixels = photograph(30, 40)
    out = np.empty((2, 16, 24, 3), np.uint8)
    for box in ((0, 0, 30, 40), (3, 4, 16, 24)):
        assert resize(pixels, box, (16, 24), out=out[1]).base is out
        np.testing.assert_array_equal(out[1], resize(pixels, box, (16, 24)))
    assert not np.shares_memory(resize(pixels, (0, 0, 30, 40), (30, 40)), pixels)
