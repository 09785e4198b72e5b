"""Measurements of files, cached on disk, so that a killed measurement continues where it stopped."""
import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mae_backbone.data.index import cache_folder

Measure = Callable[[str], list]          # path -> numbers and text as JSON has them
Progress = Callable[[str, int, int], None]  # what is measured, files done, their total

_CHUNK = 256     # files that are submitted at once; limits the results that are in memory twice
_COMMIT = 2.0    # seconds between writes; a killed process loses at most this work
_TIMEOUT = 30.0  # seconds to wait for another process that writes to the same cache
_TABLE = ('CREATE TABLE IF NOT EXISTS files (kind TEXT, path TEXT, size INTEGER, time INTEGER, value TEXT, '
          'PRIMARY KEY (kind, path)) WITHOUT ROWID')


class FileStamp(NamedTuple):
    """A file and its state, to detect changes."""

    path: str
    size: int  # bytes; -1 if the file does not exist
    time: int  # of the last change, in ns

    @classmethod
    def of(cls, path: str) -> 'FileStamp':
        """The current state of a file."""
        try:
            status = os.stat(path)
        except OSError:
            return cls(path, -1, 0)
        return cls(path, status.st_size, status.st_mtime_ns)


class ScanCache:
    """Measurements of the files of a data set, in an SQLite file of the cache folder.

    A cache that cannot be written to, or that is damaged, is replaced by one in memory.

    Args:
        key: name of the data set, such as its absolute path.
    """

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:24]
        self.path = cache_folder() / 'fingerprints' / f'{digest}.sqlite'
        self._connection = _open(self.path)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def stored(self, kind: str) -> dict[str, tuple[int, int, str]]:
        """Size, time and value (JSON) of each file that was measured."""
        try:
            rows = self._connection.execute('SELECT path, size, time, value FROM files WHERE kind = ?', (kind,))
            return {path: (size, changed, value) for path, size, changed, value in rows}
        except sqlite3.DatabaseError:
            self._restart()
            return {}

    def store(self, kind: str, rows: Sequence[tuple[FileStamp, list]]) -> None:
        """Writes measurements. If writing fails, the next run measures these files again."""
        values = [(kind, stamp.path, stamp.size, stamp.time, json.dumps(value)) for stamp, value in rows]
        try:
            with self._connection:
                self._connection.executemany('INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)', values)
        except (sqlite3.DatabaseError, UnicodeEncodeError):  # a full disk; a file name that is not UTF-8
            pass

    def _restart(self) -> None:
        self._connection.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._connection = _open(self.path)

    def measure(self, kind: str, files: Sequence[FileStamp], measure: Measure, *, workers: int,
                progress: Progress) -> list[list]:
        """Measures files in threads, except those whose measurement is cached and that have not changed.

        Args:
            kind: name of the measurement. Use another name if the meaning of the values changes.
            files: files to measure.
            measure: called in a thread for each file. It must not raise.
            workers: number of threads.
            progress: called after each chunk of files.

        Returns:
            The measurements in the order of the files.
        """
        known = self.stored(kind)
        results: dict[str, list] = {}
        for stamp in files:
            size, changed, value = known.get(stamp.path, (-2, 0, ''))
            parsed = _parsed(value) if (size, changed) == stamp[1:] else None
            if parsed is not None:
                results[stamp.path] = parsed
        del known
        missing = [stamp for stamp in files if stamp.path not in results]
        waiting: list[tuple[FileStamp, list]] = []
        due = time.monotonic() + _COMMIT
        try:
            for stamp, row in _in_threads(missing, measure, workers):
                results[stamp.path] = row
                waiting.append((stamp, row))
                if time.monotonic() > due:
                    self.store(kind, waiting)
                    waiting, due = [], time.monotonic() + _COMMIT
                    progress(kind, len(results), len(files))
        finally:
            self.store(kind, waiting)
        progress(kind, len(files), len(files))
        return [results[stamp.path] for stamp in files]


def _in_threads(files: Sequence[FileStamp], measure: Measure, workers: int) -> Iterator[tuple[FileStamp, list]]:
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = files[start:start + _CHUNK]
            yield from zip(chunk, pool.map(measure, [stamp.path for stamp in chunk]), strict=True)


def _parsed(value: str) -> list | None:
    try:
        parsed = json.loads(value)
    except ValueError:
        return None
    return parsed if isinstance(parsed, list) else None


def _open(path: Path) -> sqlite3.Connection:
    for target in (path, path, ':memory:'):
        try:
            if target == path:
                path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(target, timeout=_TIMEOUT)
            connection.execute(_TABLE)
            return connection
        except sqlite3.DatabaseError:  # damaged, or another file of that name
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        except OSError:
            continue
    raise AssertionError('SQLite cannot open a database in memory')


def no_progress(what: str, done: int, total: int) -> Any:
    """Ignores the progress."""
