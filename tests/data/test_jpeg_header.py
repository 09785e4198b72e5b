"""JPEG headers equal those that PIL reads; box and rotation are inverse."""
import io
import struct

import numpy as np
import pytest
from helpers.image_files import jpeg, ramp
from PIL import Image, ImageOps

from mae_backbone.data.jpeg_header import JpegHeader, exif_orientation, stored_box, upright


def turned(orientation: int, *, order: str = '>', height: int = 5, width: int = 7) -> tuple[bytes, np.ndarray]:
    """A JPEG with an orientation, and its pixels as viewers show them."""
    exif = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(
        f'{order}IHHHIIHHIHHI', 8, 2, 0x010f, 3, 1, 0, 0x0112, 3, 1, orientation, 0, 0)
    data = jpeg(ramp(height, width), exif=b'Exif\0\0' + exif, quality=100, subsampling=0)
    with Image.open(io.BytesIO(data)) as file:
        return data, np.array(ImageOps.exif_transpose(file))


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('orientation', range(10))
def test_size_and_orientation_equal_pil(orientation, order):
    data, shown = turned(orientation, order=order)
    header = JpegHeader.of(data)
    assert (header.height, header.width, header.one_scan) == (5, 7, True)
    assert header.orientation == (orientation if 1 <= orientation <= 8 else 1)
    assert header.size == shown.shape[:2]
    with Image.open(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(upright(np.array(file), header.orientation), shown)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_stored_box_rotated_is_the_box(orientation):
    data, shown = turned(orientation)
    header = JpegHeader.of(data)
    with Image.open(io.BytesIO(data)) as file:
        stored = np.array(file)
    for top, left, height, width in ((0, 0, 5, 5), (1, 2, 3, 2), (2, 0, 1, 4)):
        at, beside, rows, columns = stored_box((top, left, height, width), header)
        np.testing.assert_array_equal(upright(stored[at:at + rows, beside:beside + columns], orientation),
                                      shown[top:top + height, left:left + width])


def test_offsets_of_height_and_scan_are_right():
    data = jpeg(ramp(300, 20))
    header = JpegHeader.of(data)
    assert data[header.height_at:header.height_at + 2] == (300).to_bytes(2, 'big')
    assert data[header.scan_at:header.scan_at + 2] == b'\xff\xda'
    assert not JpegHeader.of(jpeg(ramp(), progressive=True)).one_scan


def test_other_files_have_no_header():
    whole = jpeg(ramp())
    scan = JpegHeader.of(whole).scan_at
    assert all(JpegHeader.of(whole[:length]) is None for length in range(scan + 1))
    cmyk = io.BytesIO()
    Image.fromarray(ramp()).convert('CMYK').save(cmyk, 'JPEG')
    size = JpegHeader.of(whole).height_at
    for data in (b'', b'\x89PNG', cmyk.getvalue(), whole[:size] + bytes(2) + whole[size + 2:],
                 whole[:size] + b'\xff' * 4 + whole[size + 4:], whole.replace(b'\xff\xc0', b'\xff\xc9')):
        assert JpegHeader.of(data) is None


@pytest.mark.parametrize('exif', [b'', b'II*\0', b'XX*\0\x08\0\0\0', b'II*\0\xff\xff\xff\xff',
                                  b'II*\0\x08\0\0\0\xff\xff',
                                  b'II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06'], ids=repr)
def test_broken_exif_data_mean_upright(exif):
    assert exif_orientation(exif) == 1
