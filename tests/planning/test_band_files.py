"""Readers for files of bands, found from the files themselves."""
from pathlib import Path

import numpy as np
import pytest
from helpers.band_sets import save_npy, save_png, save_tiff

from mae_backbone.planning.band_files import reader_of


@pytest.mark.parametrize(('save', 'channels', 'dtype', 'reader'), [
    (save_npy, 1, np.uint16, dict(type='mae_backbone.ArrayReader', channels=1, dtype='uint16')),
    (save_npy, 3, np.uint8, dict(type='mae_backbone.ArrayReader', channels=3, dtype='uint8')),
    (save_npy, 5, np.float32, None), (save_npy, 17, np.uint8, None),
    (save_tiff, 5, np.uint8, dict(type='mae_backbone.TiffReader', channels=5, dtype='uint8')),
    (save_tiff, 3, np.uint16, None), (save_png, 3, np.uint8, None)])
def test_reader_of_a_file(save, channels: int, dtype: type, reader: dict | None, tmp_path: Path):
    save(tmp_path / 'a', np.zeros((6, 8, channels), dtype))
    assert reader_of([str(next(tmp_path.iterdir()))]) == reader


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path):
    (tmp_path / 'a.npy').write_bytes(b'no array')
    save_npy(tmp_path / 'b', np.zeros((6, 8, 2), np.uint8))
    paths = [str(tmp_path / name) for name in ('a.npy', 'missing.npy', 'b.npy')]
    assert reader_of(paths) == dict(type='mae_backbone.ArrayReader', channels=2, dtype='uint8')
    assert reader_of(paths[:2]) is None
    assert reader_of([]) is None
