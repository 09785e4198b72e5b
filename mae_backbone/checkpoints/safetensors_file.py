"""Reads safetensors one tensor at a time, so that a large file is never in memory twice."""
import json
import math
import os
import struct
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

# Names of dtypes in the header (safetensors' documentation, "Format").
_DTYPES = {'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16,
           'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2, 'I64': torch.int64, 'I32': torch.int32,
           'I16': torch.int16, 'I8': torch.int8, 'U8': torch.uint8, 'BOOL': torch.bool}
_MAX_TENSORS = 100_000  # the largest public models have a few thousand

_CHUNK = 1 << 22  # elements


def open_safetensors(path: Path) -> tuple[dict[str, 'StoredTensor'], dict[str, str]]:
    """Checks the header of a file; returns its tensors, which are read when they are called, and the metadata.

    Raises:
        ValueError: the header is damaged, or declares what is not in the file.
    """
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework='pt') as file:  # checks offsets, sizes and the end of the file
            names, metadata = list(file.keys()), file.metadata() or {}
        if len(names) > _MAX_TENSORS:
            raise ValueError(f'{len(names):,} tensors, expected at most {_MAX_TENSORS:,}')
    except SafetensorError as error:
        raise ValueError(f'cannot be read as safetensors: {error}') from error
    with open(path, 'rb') as content:
        length, = struct.unpack('<Q', content.read(8))
        header = json.loads(content.read(length))
    start, size = 8 + length, os.path.getsize(path)
    readers: dict[str, StoredTensor] = {}
    for name in names:
        entry = header[name]
        dtype, shape, (begin, end) = entry['dtype'], tuple(entry['shape']), entry['data_offsets']
        if dtype not in _DTYPES:
            raise ValueError(f'{name} has dtype {dtype}')
        if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize or start + end > size:
            raise ValueError(f'{name} of shape {shape} is not in the file')
        readers[name] = StoredTensor(path, start + begin, shape, _DTYPES[dtype])
    return readers, metadata


class StoredTensor:
    """A tensor in a file, read when it is called.

    Attributes:
        path, offset: of its bytes.
        shape, dtype: of the tensor.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype

    def __call__(self) -> Tensor:
        """The tensor."""
        tensor = torch.empty(self.shape, dtype=torch.uint8 if self.dtype == torch.bool else self.dtype)
        self.read_into(tensor)
        # A bool is stored as 0 or 1; other bytes are invalid.
        return tensor != 0 if self.dtype == torch.bool else tensor

    def read_into(self, tensor: Tensor) -> None:
        """Reads the bytes into a contiguous tensor of the same size on the CPU."""
        view = _bytes_of(tensor)
        with open(self.path, 'rb', buffering=0) as file:
            file.seek(self.offset)
            self._fill(file, view)

    def is_finite(self) -> bool:
        """True if no element is NaN or infinite, checked a chunk at a time."""
        count = math.prod(self.shape)
        chunk = torch.empty(min(count, _CHUNK), dtype=torch.uint8 if self.dtype == torch.bool else self.dtype)
        with open(self.path, 'rb', buffering=0) as file:
            file.seek(self.offset)
            for start in range(0, count, _CHUNK):
                part = chunk[:count - start]
                self._fill(file, _bytes_of(part))
                if not is_finite(part):
                    return False
        return True

    def _fill(self, file: IO[bytes], view: memoryview) -> None:
        while len(view):  # a read returns at most 2 GiB
            count = cast(Any, file).readinto(view)
            if not count:
                raise EOFError(f'{self.path} was cut off while it was read')
            view = view[count:]


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return memoryview(cast(Any, tensor.detach().reshape(-1).view(torch.uint8).numpy()))


def is_finite(value: Tensor) -> bool:
    """True if a tensor has neither NaN nor infinite elements; integers never have."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    if value.dtype.itemsize == 1:  # float8, which isfinite does not take
        value = value.float()
    # A sum is finite only if all of its elements are. It takes a quarter of the time, and no memory.
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())
