"""Files that are written completely or not at all.

Content goes into a hidden file next to the target, `.NAME.TOKEN.part`, which is renamed once it is complete. A reader
sees the old file or the new one, and an error leaves the old one in place. Only a killed process leaves its partial
file behind; see `partial_files`.
"""
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota of the user, limit of the size of a file
_MAX_BYTES = 180  # of the name that a partial file repeats: file systems allow 255 bytes in a name


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False, keep_suffix: bool = False) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`, and renames it to `path` when the block ends.

    If the block raises, the temporary file is removed and `path` is not touched. Two processes that write the same
    `path` use different temporary files; the last one to finish wins.

    Args:
        path: the file to write. Its folder must exist.
        durable: flush file and folder to the disk, so that the file also survives a loss of power.
        keep_suffix: end the temporary name in the suffix of `path`, for writers that choose a format by it.

    Raises:
        OSError: the file cannot be written, flushed or renamed. Its `filename` is the path, not the temporary path.
    """
    path = Path(path)
    temporary = _partial(path, path.suffix if keep_suffix else '')
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        is_unknown = error.filename is None and error.errno in FULL_DISK  # a write does not state the file
        if is_unknown or error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # it does not exist, or a read-only file system refuses to remove what does not exist
            temporary.unlink()
    if durable:
        _sync(path.parent)


def write_bytes(path: str | Path, content: bytes, *, durable: bool = False) -> None:
    """Writes a whole file of bytes. `durable` and errors as in `atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, text: str, *, errors: str = 'strict', durable: bool = False) -> None:
    """Writes a whole text file in UTF-8, without translating line ends.

    Args:
        errors: how characters that UTF-8 lacks are encoded; 'surrogateescape' for file names that are not UTF-8.
    """
    write_bytes(path, text.encode(errors=errors), durable=durable)


def partial_files(folder: str | Path, name: str = '*') -> list[Path]:
    """Temporary files in a folder, for targets whose names match the pattern `name`.

    They belong to killed processes, or to processes that are still writing.
    """
    return sorted(Path(folder).glob(f'.{name}.*.part*'))


def _partial(path: Path, suffix: str) -> Path:
    name = path.name
    while len(os.fsencode(name)) > _MAX_BYTES:
        name = name[:-1]
    return path.with_name(f'.{name}.{secrets.token_hex(4)}.part{suffix}')


def _sync(path: Path) -> None:
    """Flushes a file, or on POSIX the entries of a folder, to the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name != 'posix':
        return
    # Windows flushes only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError:
        if not is_folder:  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)
