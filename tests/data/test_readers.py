"""Readers turn file contents into pixels, and refuse other files with the setting to change."""
import io
import sys

import numpy as np
import pytest
import tifffile
from helpers.image_files import difference, jpeg, photograph

from mae_backbone.data import readers
from mae_backbone.data.decode import BadImageError, decode_crop
from mae_backbone.data.readers import ArrayReader, TiffReader
from mae_backbone.registry import TRANSFORMS


def test_color_reader_equals_the_decoder():
    reader, data = TRANSFORMS.build({'type': 'mae_backbone.ColorReader'}), jpeg(photograph(60, 80))
    assert (reader.channels, reader.dtype) == (3, np.uint8)
    assert reader.size(data) == (60, 80)
    out = np.empty((16, 24, 3), np.uint8)
    assert reader.crop(data, (3, 4, 50, 60), (16, 24), out, interpolation='bilinear') is out
    np.testing.assert_array_equal(out, decode_crop(data, (3, 4, 50, 60), (16, 24), interpolation='bilinear'))


def bands(channels: int, dtype: str = 'uint8') -> np.ndarray:
    """(60, 80, channels), no two channels alike."""
    gray = photograph(60, 80)[..., :1].astype(dtype) * np.dtype(dtype).type(257 if dtype == 'uint16' else 1)
    return np.concatenate([np.roll(gray, 5 * i, axis=0) for i in range(channels)], axis=-1)


def npy(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    options = {'photometric': 'minisblack', 'planarconfig': 'contig'} | options
    if 1 in pixels.shape or pixels.ndim == 2:
        options['planarconfig'] = None  # of one channel there is nothing to arrange
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


WRITERS = {
    'npy': (ArrayReader, {}, npy),
    'npy by columns': (ArrayReader, {}, lambda pixels: npy(np.asfortranarray(pixels))),
    'npy big-endian': (ArrayReader, {}, lambda pixels: npy(pixels.astype(pixels.dtype.newbyteorder('>')))),
    'npy channels first': (ArrayReader, {'channels_first': True}, lambda pixels: npy(np.moveaxis(pixels, -1, 0))),
    'tiff': (TiffReader, {}, tiff),
    'tiff big-endian': (TiffReader, {}, lambda pixels: tiff(pixels, byteorder='>')),
    'tiff tiles': (TiffReader, {}, lambda pixels: tiff(pixels, tile=(32, 32), compression='deflate', predictor=True)),
    'tiff lzw': (TiffReader, {}, lambda pixels: tiff(pixels, compression='lzw', rowsperstrip=7)),
    'tiff planes': (TiffReader, {}, lambda pixels: tiff(np.moveaxis(pixels, -1, 0), planarconfig='separate')),
    'tiff pages': (TiffReader, {}, lambda pixels: tiff(np.moveaxis(pixels, -1, 0), planarconfig=None)),
}


@pytest.mark.parametrize('kind', WRITERS)
@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [1, 2, 3, 4, 16])
def test_channels_and_bit_depths_are_read_back(kind, dtype, channels):
    reader, options, write = WRITERS[kind]
    reader, pixels = reader(channels, dtype=dtype, **options), bands(channels, dtype)
    data = write(pixels)
    assert reader.size(data) == (60, 80)
    assert (reader.channels, reader.dtype) == (channels, dtype)
    np.testing.assert_array_equal(reader.crop(data, (5, 7, 40, 50), (40, 50)), pixels[5:45, 7:57])
    out = np.empty((24, 32, channels), dtype)
    assert reader.crop(data, (5, 7, 40, 50), (24, 32), out) is out
    small = ArrayReader(channels).crop(npy(bands(channels)), (5, 7, 40, 50), (24, 32))
    assert difference((out / (257 if dtype == 'uint16' else 1)).round(), small) <= 2


@pytest.mark.parametrize('kind', WRITERS)
def test_channels_are_taken_in_the_requested_order(kind):
    reader, options, write = WRITERS[kind]
    reader, pixels = reader([3, 2, 1], dtype='uint16', **options), bands(13, 'uint16')
    assert reader.channels == 3
    np.testing.assert_array_equal(reader.crop(write(pixels), (5, 7, 40, 50), (40, 50)), pixels[5:45, 7:57, [3, 2, 1]])


@pytest.mark.parametrize('kind', ['npy', 'tiff'])
def test_image_without_third_axis_has_one_channel(kind):
    reader, _, write = WRITERS[kind]
    gray = bands(1)[..., 0]
    data = write(gray) if kind == 'npy' else tiff(gray)
    np.testing.assert_array_equal(reader(1).crop(data, (0, 0, 60, 80), (60, 80))[..., 0], gray)


@pytest.mark.parametrize('kind', ['npy', 'tiff'])
def test_other_channels_and_depths_raise_with_the_setting(kind):
    reader, _, write = WRITERS[kind]
    for arguments, pixels, says in (
            ((3,), bands(4), r'^has 4 channels, expected 3: set channels=4 in the reader of the config'),
            (([0, 4],), bands(4), r'^has 4 channels, .* channel 4 is requested: correct channels=\[0, 4\]'),
            ((4,), bands(4, 'uint16'), r"^holds uint16 numbers, expected uint8: set dtype='uint16'"),
            ((4,), bands(4).astype('float32'), '^holds float32 numbers, expected uint8: scale them'),
            ((4,), bands(4).astype('int8'), '^holds int8 numbers, expected uint8: scale them')):
        data = write(pixels)
        chosen = reader(*arguments)
        with pytest.raises(BadImageError, match=says):
            chosen.size(data)
        with pytest.raises(BadImageError, match=says):
            chosen.crop(data, (0, 0, 8, 8), (8, 8))


def test_channels_first_is_suggested_if_it_fits():
    with pytest.raises(BadImageError, match=r'has 80 channels.*set channels_first=True, as its shape is \(4, '
                                            r'60, 80\)'):
        ArrayReader(4).size(npy(np.moveaxis(bands(4), -1, 0)))
    with pytest.raises(BadImageError, match='or set channels_first=False'):
        ArrayReader(4, channels_first=True).size(npy(bands(4)))


class Trap:
    """Would end the test if anything unpickled it."""

    def __reduce__(self):
        return sys.exit, (3,)


def test_pickled_content_is_never_loaded():
    data = npy(np.array([[Trap(), Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(BadImageError, match='holds object numbers'):
        ArrayReader(1).crop(data, (0, 0, 1, 1), (8, 8))


@pytest.mark.parametrize('data', [b'', b'\x93NUMPY', b'\x93NUMPY\x07\x00', npy(bands(3))[:60], jpeg(bands(3)),
                                  npy(bands(3)).replace(b"'shape'", b"'shipe'"), npy(bands(3)).replace(b'}', b'('),
                                  npy(bands(3)).replace(b'|u1', b'|z1')])
def test_other_content_raises(data):
    with pytest.raises(BadImageError, match=r'^is not a NumPy file'):
        ArrayReader(3).size(data)


def test_arrays_of_other_shapes_and_truncated_ones_raise():
    for pixels, says in ((bands(3)[None], r'is an array of shape \(1, 60, 80, 3\)'), (bands(3)[:0], 'is empty, 0x80')):
        with pytest.raises(BadImageError, match=says):
            ArrayReader(3).size(npy(pixels))
    data = npy(bands(3))
    with pytest.raises(BadImageError, match='is a NumPy array truncated after'):
        ArrayReader(3).crop(data[:-1], (0, 0, 8, 8), (8, 8))
    with pytest.raises(BadImageError, match='is a NumPy array truncated after'):
        ArrayReader(3).size(data.replace(b'(60, 80, 3), }', b'(6000, 8000, 3), }'.ljust(14))[:200])


@pytest.mark.parametrize('kind', ['tiff', 'tiff tiles', 'tiff lzw', 'tiff planes', 'tiff pages'])
@pytest.mark.parametrize('share', [0, 0.001, 0.02, 0.5, 0.9])
def test_truncated_tiff_raises(kind, share):
    data = WRITERS[kind][2](bands(4))
    with pytest.raises(BadImageError, match=r'^is (a TIFF truncated|not a TIFF that tifffile can read).*: replace or '
                                            r'remove it'):
        TiffReader(4).crop(data[:int(share * len(data))], (0, 0, 8, 8), (8, 8))


def test_tiff_reader_without_libraries_tells_how_to_install(monkeypatch):
    monkeypatch.setattr(readers, 'find_spec', lambda _: None)
    with pytest.raises(ValueError, match=r'needs tifffile and imagecodecs: python -m pip install tifffile'):
        TRANSFORMS.build({'type': 'mae_backbone.TiffReader', 'channels': 4})


@pytest.mark.parametrize('arguments', [{'channels': 0}, {'channels': 17}, {'channels': []}, {'channels': [-1]},
                                       {'dtype': 'float32'}], ids=str)
def test_argument_out_of_range_raises(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ArrayReader(**arguments)


def test_box_outside_the_image_raises():
    with pytest.raises(ValueError, match='is not inside an image of 60x80'):
        ArrayReader(3).crop(npy(bands(3)), (0, 0, 61, 8), (8, 8))
