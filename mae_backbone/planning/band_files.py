"""Selects the reader for image files that are not gray or color images: NumPy arrays, and TIFF with other channels."""
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from mae_backbone.data.tiff_header import tiff_shape

_MAX_READ = 20  # number of files that are opened to find a readable one


def reader_of(paths: Sequence[str]) -> dict[str, Any] | None:
    """Returns the config of a reader for the first readable file; None if the file is a gray or color image.

    The config has the number of channels and the data type of the file. Returns None also if no reader supports the
    file.
    """
    for path in islice(paths, _MAX_READ):
        name = path.lower()
        if name.endswith('.npy'):
            try:
                array = np.load(path, mmap_mode='r', allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            channels = array.shape[2] if array.ndim == 3 else 1
            return _reader('ArrayReader', channels, 8 * array.dtype.itemsize) if array.dtype.kind == 'u' else None
        shape = tiff_shape(path) if name.endswith(('.tif', '.tiff')) else None
        if shape is None:
            return None
        return _reader('TiffReader', shape.channels, shape.bits) if shape.has_bands else None
    return None


def _reader(name: str, channels: int, bits: int) -> dict[str, Any] | None:
    """Returns the config of a reader, or None if no reader supports the file. `make_plan` then raises an error."""
    if bits not in (8, 16) or not 1 <= channels <= 16:
        return None
    return dict(type=f'mae_backbone.{name}', channels=channels, dtype=f'uint{bits}')
