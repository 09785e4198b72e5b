"""Headers of image files that would take gigabytes, hours or another meaning are refused."""
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.image_files import save

from mae_backbone.data import readers
from mae_backbone.data.decode import BadImageError
from mae_backbone.data.readers import ArrayReader, TiffReader
from mae_backbone.data.shard_writer import Packing
from mae_backbone.data.sources import open_source

ARRAYS, PAGES = ArrayReader(4, dtype='uint16'), TiffReader(1)


def npy(shape: str) -> bytes:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b'\x93NUMPY\x01\0' + struct.pack('<H', len(header)) + header + bytes(128)


@pytest.mark.parametrize('shape', ['(-1, 4, 4)', '(-4, -4, 4)', '(True, True, 4)', '(4, 4, 4, 1)', '()'])
def test_arrays_of_invalid_shapes_are_refused(shape: str):
    with pytest.raises(BadImageError, match='is an array of shape'):
        ARRAYS.size(npy(shape))


def test_arrays_of_valid_shapes_are_read():
    assert ARRAYS.size(npy('(4, 4, 4)')) == (4, 4)


def tiff(pages: int, *, last: int = 0, is_big: bool = False) -> bytes:
    """Empty pages; the last one points to the page `last`, counted from 1."""
    size, first = (16, 16) if is_big else (6, 8)
    header = struct.pack('<2sHHHQ', b'II', 43, 8, 0, first) if is_big else struct.pack('<2sHI', b'II', 42, first)
    offsets = [first + size * page for page in (*range(1, pages), last - 1)]
    offsets[-1] = offsets[-1] if last else 0
    return header + b''.join(struct.pack('<QQ' if is_big else '<HI', 0, offset) for offset in offsets) + bytes(16)


@pytest.mark.parametrize('is_big', [False, True])
@pytest.mark.parametrize('last', [1, 2, 3])
def test_pages_that_form_a_cycle_are_refused(last: int, is_big: bool):
    """tifffile follows them without an end."""
    with pytest.raises(BadImageError, match='pages form a cycle'):
        PAGES.size(tiff(3, last=last, is_big=is_big))


@pytest.mark.parametrize('is_big', [False, True])
def test_too_many_pages_are_refused(is_big: bool):
    assert 'more than 10,000 pages' in readers._pages_fault(tiff(10_001, is_big=is_big))
    assert not readers._pages_fault(tiff(10_000, is_big=is_big))


def test_pages_of_written_files_are_accepted():
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((12, 8, 8), np.uint8), photometric='minisblack')
    assert TiffReader(12).size(file.getvalue()) == (8, 8)


def tile(side: int) -> bytes:
    """An image of 64x64 pixels with a compressed tile of `side` x `side`."""
    data = zlib.compress(bytes(64), 9)
    entries: Sequence[tuple[int, int]] = (
        (256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 8),
        (325, len(data)))
    pages = struct.pack('<H', len(entries)) + b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in entries)
    return struct.pack('<2sHI', b'II', 42, 8 + len(data)) + data + pages + bytes(4)


def test_tiles_far_larger_than_the_image_are_refused():
    """A tile is decoded as a whole: 30,000 x 30,000 pixels from 1 MB."""
    with pytest.raises(BadImageError, match='has tiles or strips of 900,000,000 values'):
        PAGES.size(tile(30_000))
    assert PAGES.size(tile(1024)) == (64, 64)


def test_names_with_line_breaks_have_one_line_in_the_list_of_bad_images(tmp_path: Path):
    from mae_backbone.data.pack import BAD_IMAGES, pack
    save(tmp_path / 'images/good.png')
    (tmp_path / 'images/bad\nerror: \x1b[2J.png').write_bytes(b'x')
    pack(open_source(tmp_path / 'images'), tmp_path / 'out', Packing())
    line, = (tmp_path / 'out' / BAD_IMAGES).read_text().splitlines()
    assert r'bad\nerror: \x1b[2J.png' in line
