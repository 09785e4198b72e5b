"""Locks between the processes of one machine, on file systems that support them."""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


@contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Holds the lock file `path` while the block runs; other processes wait for it.

    The system releases the lock of a process that ends for any reason. The file may remain.

    Yields:
        True if the lock is held. False if it cannot be taken, for example in a folder without write permission or on a
        network file system without locks; the block then runs without one.
    """
    lock, held = FileLock(path), False
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        held = True
    except (OSError, NotImplementedError):
        pass
    try:
        yield held
    finally:
        if held:
            lock.release()
