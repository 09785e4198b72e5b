"""Reads checkpoint files without executing code in them.

Supported are files of `torch.save` (zip archives, and the format before torch 1.6), pickles of NumPy arrays (model zoo
of detectron2), and safetensors. The result consists of plain values, tensors on the CPU and log histories
(`decoding.History`). Any other content raises CheckpointError.
"""
import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from mae_backbone.checkpoints.decoding import decode, element_size
from mae_backbone.checkpoints.safe_pickle import UnsafePickleError, load, persistent_ids
from mae_backbone.checkpoints.safetensors_file import open_safetensors

# Errors that the readers below raise for damaged files.
_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, StopIteration,
            AssertionError, OverflowError, MemoryError, RecursionError, struct.error, zipfile.BadZipFile, zlib.error)
# Files that downloads leave in place of a checkpoint, by their first bytes in lower case.
_OTHER_FILES = {b'version h': 'a pointer of Git LFS: fetch its content with `git lfs pull`', b'<!doctype': 'a web page',
                b'<html': 'a web page', b'<?xml': 'a web page'}
# Value of the first pickle in a file of torch before 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_DIRECTORY = 2**25  # largest directory of a zip archive in bytes: more than 200,000 entries, one for each tensor
_MAX_ZIP_END = 2**17  # bytes at the end of a zip archive that contain its last record, a comment and the zip64 records


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or does not fit the model."""


def read_content(path: str | Path, *, outline: bool = False) -> object:
    """Reads the whole content of a checkpoint file.

    Args:
        path: path of the file.
        outline: do not read the tensors in zip archives of torch. They are on the device `meta` and have only a shape.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file is not a checkpoint, is damaged, or contains names of code.
    """
    path = existing_file(path)
    if path.suffix.lower() in ('.onnx', '.pt2'):
        raise CheckpointError(f'{path} is an exported file: pass the checkpoint that it was exported from. Only '
                              '`predict`, `demo` and `info` read ONNX files')
    with damage_reported(path):
        return _read(path, outline)


def existing_file(path: str | Path) -> Path:
    """Returns the path if the file exists. Otherwise raises FileNotFoundError, which lists other checkpoints there."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist: check the path' + _neighbors(path))
    return path


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Converts the errors that readers raise for damaged files to CheckpointError with the path of the file."""
    try:
        yield
    except UnsafePickleError as error:
        raise CheckpointError(f'{path} names code to run ({error}), which this program refuses to do: save only its '
                              'state_dict, or convert it to safetensors where you trust it') from error
    except _DAMAGED as error:
        # The message of a KeyError would be only the key.
        reason = _other_file(path) or ('unknown content' if isinstance(error, KeyError) else (
            str(error).splitlines() or [type(error).__name__])[0])
        raise CheckpointError(f'{path} is not a checkpoint, or is damaged or cut off ({reason[:200]}): check the path, '
                              'or copy the file again') from error


def _other_file(path: Path) -> str:
    """Returns what a file is that a download left in place of a checkpoint; '' for any other file."""
    try:
        with open(path, 'rb') as file:
            start = file.read(9).lower()
    except OSError:
        return ''
    return next((reason for beginning, reason in _OTHER_FILES.items() if start.startswith(beginning)), '')


def _read(path: Path, outline: bool) -> object:
    with open(path, 'rb') as file:
        start = file.read(9)
        if reason := _other_file(path):
            raise ValueError(reason)
        if path.suffix == '.safetensors' or start[8:] == b'{':
            return {name: read() for name, read in open_safetensors(path)[0].items()}
        if zipfile.is_zipfile(file):
            return _read_zip(file, outline)
        if not start:
            raise EOFError('the file is empty')
        if start.startswith(b'PK\3\4'):
            raise EOFError('a zip archive without its end')
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read_pickles(content)


# --- zip archives of torch

def check_directory(file: IO[bytes]) -> None:
    """Checks that a zip archive does not have millions of entries, because `zipfile` needs 500 bytes for each entry.

    Raises:
        ValueError: the directory at the end of the archive is too large for a checkpoint.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - _MAX_ZIP_END))
    tail = file.read()
    start = tail.rfind(b'PK\5\6')
    size = int.from_bytes(tail[start + 12:start + 16], 'little')
    if size == 0xFFFFFFFF:  # the size is in the zip64 record before this one
        start = tail.rfind(b'PK\6\6', 0, start)
        size = int.from_bytes(tail[start + 40:start + 48], 'little')
    file.seek(0)
    if size > _MAX_DIRECTORY:
        raise ValueError(f'an archive with a directory of {size / 2**20:,.0f} MB')


def _read_zip(file: IO[bytes], outline: bool) -> object:
    check_directory(file)
    with zipfile.ZipFile(file) as archive:
        entries = _checked_entries(archive, size=file.seek(0, 2))
        pickles = [name for name in entries if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            raise ValueError(f'{len(pickles)} files data.pkl in the archive')
        root = pickles[0].removesuffix('data.pkl')
        order = archive.read(entries[root + 'byteorder']) if root + 'byteorder' in entries else b'little'
        if order != b'little':
            raise ValueError('written on a big-endian machine')
        storages: dict[str, Tensor] = {}

        def storage(key: str) -> Tensor:
            if key not in storages:
                entry = entries[f'{root}data/{key}']
                storages[key] = (torch.empty(entry.file_size, dtype=torch.uint8, device='meta') if outline
                                 else _read_entry(archive, entry))
            return storages[key]

        return decode(load(io.BytesIO(archive.read(pickles[0]))), storage)


def _checked_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries of an archive by name.

    Raises:
        ValueError: entries are compressed or overlap. torch does not write such entries, and they could be unpacked to
            any size.
    """
    entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f'{entry.filename} is compressed')
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError('the archive holds more than the file')
    return {entry.filename: entry for entry in entries}


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    """Returns the bytes of an entry as uint8 (n,). Unlike torch, zipfile verifies its checksum."""
    return _bytes_to_tensor(archive.read(entry))


# --- pickles: of arrays, and of torch before 1.6

def _read_pickles(content: mmap.mmap) -> object:
    first = load(content)
    if first != _MAGIC:
        return decode(first)
    version, system, tree, keys = (load(content) for _ in range(4))
    if version != 1001 or not isinstance(system, dict) or not system.get('little_endian'):
        raise ValueError('written by another version of torch, or on a big-endian machine')
    if not isinstance(keys, list):
        raise TypeError('no list of storages')
    sizes = dict(element_size(reference) for reference in persistent_ids(tree))
    storages: dict[str, Tensor] = {}
    for key in keys:
        count, = struct.unpack('<q', content.read(8))
        if count < 0 or count * sizes[key] > len(content) - content.tell():
            raise EOFError('cut off')
        storages[key] = _bytes_to_tensor(content.read(count * sizes[key]))
    return decode(tree, storages.__getitem__)


def _bytes_to_tensor(data: bytes) -> Tensor:
    """Returns bytes as a tensor uint8 (n,). They are copied, because tensors are writable and bytes are not."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _neighbors(path: Path) -> str:
    """Returns a text with the checkpoints in the folder of a file that does not exist; '' if there are none."""
    folder = path if path.is_dir() else path.parent
    names = sorted(file.name for file in folder.glob('*.pth')) if folder.is_dir() else []
    return f'; {folder} holds {", ".join(names[:5])}' if names else ''
