"""Checkpoint files of a run: written whole or not at all, found again after a crash, told from damaged ones."""
import errno
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mae_backbone.checkpoints.encoder import CheckpointError

INTERRUPTED = 'interrupted.pth'  # what a run saves that is told to stop
_PATTERNS = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFullError(OSError):
    """There is no room for a checkpoint; `errno` is ENOSPC."""


def write_whole(content: dict, path: Path) -> None:
    """Saves `content` at `path`: under another name first, and on the disk before it gets its own.

    Whatever happens meanwhile, a file at `path` is a whole one, the old or the new.

    Raises:
        DiskFullError: there is no room; what was there before is still there.
    """
    part, needed = path.with_name(path.name + '.part'), size_of(content)
    if shutil.disk_usage(path.parent).free < needed:
        raise _disk_full(path, needed)
    try:
        with open(part, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch words some errors of the disk as its own
        if getattr(error, 'errno', None) in _FULL or shutil.disk_usage(path.parent).free < needed:
            raise _disk_full(path, needed) from error
        raise
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_line(line: str, path: Path) -> None:
    """Writes a file of one line, whole or not at all."""
    part = path.with_name(path.name + '.part')
    try:
        with open(part, 'w', encoding='utf-8') as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def size_of(content: object) -> int:
    """Bytes that `content` takes in a file, but for a few thousand."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, dict):
        return sum(size_of(value) for value in content.values())
    if isinstance(content, (list, tuple)):
        return sum(size_of(value) for value in content)
    if isinstance(content, HistoryBuffer):
        return sum(array.nbytes for array in content.data)
    return 0


def remove_parts(folder: str | Path) -> list[Path]:
    """Removes what a killed run was writing when it was killed; returns what it was."""
    parts = sorted(Path(folder).glob('*.pth.part'))
    for part in parts:
        part.unlink(missing_ok=True)
    return parts


def damage(path: Path) -> str | None:
    """What keeps a checkpoint from being read, None where every byte of it is what was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()  # torch writes checksums, and does not look at them when it reads
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if bad is None else f'checksum of {bad}'


def saved_checkpoints(work_dir: str | Path) -> list[Path]:
    """The checkpoints that a run could go on from, whole or damaged, in the order in which they are to be tried.

    That is the noted one, then the others from the latest on; and before all of them what was saved after the note:
    a run may be killed between the two.
    """
    note = Path(work_dir, 'last_checkpoint')
    noted = Path(note.read_text(encoding='utf-8').strip()) if note.is_file() else None
    folders = {Path(work_dir)} if noted is None else {Path(work_dir), noted.parent}
    saved = sorted((file for folder in folders for pattern in _PATTERNS for file in folder.glob(pattern)),
                   key=_age, reverse=True)
    if noted is None or not noted.is_file():
        return saved
    return ([file for file in saved if file != noted and _age(file) > _age(note)] + [noted]
            + [file for file in saved if file != noted and _age(file) <= _age(note)])


def last_whole(work_dir: str | Path, damaged: dict[Path, str]) -> Path | None:
    """The latest checkpoint of a run that can be read, None where it has saved none.

    Those that were passed over come into `damaged`, with what is wrong with each.

    Raises:
        CheckpointError: there are some, and all are damaged.
    """
    for path in saved_checkpoints(work_dir):
        problem = damage(path)
        if problem is None:
            return path
        damaged[path] = problem
    if damaged:
        raise CheckpointError('every checkpoint is damaged: ' + '; '.join(f'{path} ({problem})' for path, problem
                                                                          in damaged.items())
                              + '. Copy one again from elsewhere, or remove them to start anew')
    return None


def _age(file: Path) -> int:
    return file.stat().st_mtime_ns


def _disk_full(path: Path, needed: int) -> DiskFullError:
    free = shutil.disk_usage(path.parent).free
    kept = next(iter(_whole(path.parent)), None)
    return DiskFullError(errno.ENOSPC, f'no room for the checkpoint {path}: it needs {_megabytes(needed)}, and '
                    f'{_megabytes(free)} are free. '
                    + (f'{kept} stays as it is' if kept else 'No earlier one is there')
                    + '. Free some space, or choose another --work-dir; then the same command with --resume goes on')


def _whole(folder: Path) -> Iterator[Path]:
    return (path for path in saved_checkpoints(folder) if zipfile.is_zipfile(path))


def _megabytes(number: int) -> str:
    return f'{number / 1e6:,.0f} MB' if number >= 1e7 else f'{number / 1e6:,.2f} MB'


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder last, where the system can."""
    if os.name != 'posix':
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot
        pass
    finally:
        os.close(descriptor)
