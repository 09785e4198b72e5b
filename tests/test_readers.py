"""Readers: bytes of a file to pixels, by the name that a config gives."""
import numpy as np
from image_files import jpeg, photograph

from mae_backbone.data.decode import decode_crop
from mae_backbone.registry import TRANSFORMS


def test_the_reader_of_photographs_is_the_decoder():
    reader, data = TRANSFORMS.build({'type': 'mae_backbone.ColourReader'}), jpeg(photograph(60, 80))
    assert (reader.channels, reader.dtype) == (3, np.uint8)
    assert reader.size(data) == (60, 80)
    out = np.empty((16, 24, 3), np.uint8)
    assert reader.crop(data, (3, 4, 50, 60), (16, 24), out, interpolation='bilinear') is out
    np.testing.assert_array_equal(out, decode_crop(data, (3, 4, 50, 60), (16, 24), interpolation='bilinear'))
