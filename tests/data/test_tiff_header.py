"""Headers of TIFF files: which of them hold bands, and which a gray or a color image."""
from pathlib import Path

import numpy as np
import pytest

from mae_backbone.data.tiff_header import TiffShape, tiff_shape

tifffile = pytest.importorskip('tifffile')


def write(path: Path, channels: int, dtype: type = np.uint8, **options) -> str:
    shape = (6, 8) if channels == 1 else (6, 8, channels)
    tifffile.imwrite(path, np.zeros(shape, dtype), **options)
    return str(path)


@pytest.mark.parametrize(('channels', 'options', 'has_bands'), [
    (1, dict(photometric='minisblack'), False),
    (3, dict(photometric='rgb'), False),
    (4, dict(photometric='rgb', extrasamples=['unassalpha']), False),
    (4, dict(photometric='rgb', extrasamples=['unspecified']), True),
    (4, dict(photometric='separated'), None),                       # CMYK
    (2, dict(photometric='minisblack', planarconfig='contig', extrasamples=['unassalpha']), False),
    (2, dict(photometric='minisblack', planarconfig='contig'), True),
    (5, dict(photometric='minisblack', planarconfig='contig'), True),
])
def test_bands_are_told_from_colors_and_transparency(tmp_path: Path, channels: int, options: dict,
                                                     has_bands: bool | None):
    shape = tiff_shape(write(tmp_path / 'a.tif', channels, np.uint16, **options))
    if has_bands is None:
        assert shape is None
        return
    assert shape is not None
    assert shape[:4] == (8, 6, channels, 16)
    assert shape.has_bands is has_bands


def test_pages_are_channels(tmp_path: Path):
    tifffile.imwrite(tmp_path / 'a.tif', np.zeros((7, 6, 8), np.uint8), photometric='minisblack')
    assert tiff_shape(str(tmp_path / 'a.tif')) == TiffShape(8, 6, 7, 8, False, 'uint8')


def test_other_files_are_none(tmp_path: Path):
    (tmp_path / 'a.tif').write_bytes(b'II*\0' + bytes(30))
    assert tiff_shape(str(tmp_path / 'a.tif')) is None
