"""Reads safetensors one tensor at a time, so that a large file is never in memory twice."""
import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

# Names of dtypes in the header (safetensors' documentation, "Format").
_DTYPES = {'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16,
           'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2, 'I64': torch.int64, 'I32': torch.int32,
           'I16': torch.int16, 'I8': torch.int8, 'U8': torch.uint8, 'BOOL': torch.bool}


def open_safetensors(path: Path) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    """Checks the header of a file; returns a function for each tensor that reads it, and the metadata.

    Raises:
        ValueError: the header is damaged, or declares what is not in the file.
    """
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework='pt') as file:  # checks offsets, sizes and the end of the file
            names, metadata = list(file.keys()), file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f'cannot be read as safetensors: {error}') from error
    with open(path, 'rb') as content:
        length, = struct.unpack('<Q', content.read(8))
        header = json.loads(content.read(length))
    start, size = 8 + length, os.path.getsize(path)
    readers: dict[str, Callable[[], Tensor]] = {}
    for name in names:
        entry = header[name]
        dtype, shape, (begin, end) = entry['dtype'], tuple(entry['shape']), entry['data_offsets']
        if dtype not in _DTYPES:
            raise ValueError(f'{name} has dtype {dtype}')
        if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize or start + end > size:
            raise ValueError(f'{name} of shape {shape} is not in the file')
        readers[name] = _Reader(path, start + begin, shape, _DTYPES[dtype])
    return readers, metadata


class _Reader:
    """Reads one tensor when it is called."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype

    def __call__(self) -> Tensor:
        data = torch.empty(math.prod(self.shape) * self.dtype.itemsize, dtype=torch.uint8)
        view = memoryview(cast(Any, data.numpy()))
        with open(self.path, 'rb', buffering=0) as file:
            file.seek(self.offset)
            while len(view):  # a read returns at most 2 GiB
                count = file.readinto(view)
                if not count:
                    raise EOFError(f'{self.path} was cut off while it was read')
                view = view[count:]
        if self.dtype == torch.bool:  # a bool is stored as 0 or 1; other bytes are invalid
            return (data != 0).reshape(self.shape)
        return data.view(self.dtype).reshape(self.shape)
