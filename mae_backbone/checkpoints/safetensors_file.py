"""Reads safetensors files tensor by tensor, so that a large file is never in memory twice."""
import json
import math
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

# Dtypes by their name in the header (documentation of safetensors, "Format").
_DTYPES = {'F64': torch.float64, 'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16,
           'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2, 'I64': torch.int64, 'I32': torch.int32,
           'I16': torch.int16, 'I8': torch.int8, 'U8': torch.uint8, 'BOOL': torch.bool}
_MAX_ELEMENTS = 2**60  # of a tensor; PyTorch fails on the shape of larger ones, even if a side is 0
_MAX_TENSORS = 100_000  # the largest public models have a few thousand

_CHUNK = 1 << 22  # number of elements that are checked at once


def open_safetensors(path: Path) -> tuple[dict[str, 'StoredTensor'], dict[str, str]]:
    """Checks the header of a file. Returns its tensors by name, which are read when they are called, and its metadata.

    Raises:
        ValueError: the header is damaged, or declares tensors that are not in the file.
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
        if (end - begin != math.prod(shape) * _DTYPES[dtype].itemsize or start + end > size
                or math.prod(max(1, side) for side in shape) > _MAX_ELEMENTS):
            raise ValueError(f'{name} of shape {shape} is not in the file')
        readers[name] = StoredTensor(path, start + begin, shape, _DTYPES[dtype])
    return readers, metadata


def save_safetensors(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file.

    Raises:
        OSError: the file cannot be written, for example because the disk is full. safetensors has another error.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file
    try:
        save_file(dict(tensors), path, dict(metadata))
    except SafetensorError as error:
        number = re.search(r'\(os error (\d+)\)', str(error))
        if number is None:
            raise OSError(f'{path} cannot be written ({error}): check its folder and the space on the disk') from error
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(Path(path).parent)) from error


class CutOffError(EOFError, ValueError):
    """A file was cut off while it was read."""


class StoredTensor:
    """A tensor in a file. It is read each time the object is called.

    Attributes:
        path: path of the file.
        offset: position of the first byte in the file.
        shape, dtype: shape and dtype of the tensor.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype

    def __call__(self) -> Tensor:
        """Reads the tensor."""
        tensor = torch.empty(self.shape, dtype=torch.uint8 if self.dtype == torch.bool else self.dtype)
        self.read_into(tensor)
        # A bool is stored as the byte 0 or 1. Other bytes would be invalid.
        return tensor != 0 if self.dtype == torch.bool else tensor

    def read_into(self, tensor: Tensor) -> None:
        """Reads the bytes into a contiguous tensor of the same size on the CPU."""
        view = _bytes_of(tensor)
        with open(self.path, 'rb', buffering=0) as file:
            file.seek(self.offset)
            self._fill(file, view)

    def is_finite(self) -> bool:
        """True if no element is NaN or infinite. Only a chunk of the tensor is in memory at a time."""
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
        while len(view):  # a single read returns at most 2 GiB
            count = cast(Any, file).readinto(view)
            if not count:
                raise CutOffError(f'{self.path} was cut off while it was read: copy the file again')
            view = view[count:]


def _bytes_of(tensor: Tensor) -> memoryview:
    """Returns the memory of a contiguous tensor as bytes."""
    return memoryview(cast(Any, tensor.detach().reshape(-1).view(torch.uint8).numpy()))


def is_finite(value: Tensor) -> bool:
    """True if a tensor has no NaN and no infinite elements. Always True for integers."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    if value.dtype.itemsize == 1:  # torch.isfinite does not support float8
        value = value.float()
    # If the sum is finite, all elements are finite. A sum takes a quarter of the time of isfinite, and no memory.
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())
