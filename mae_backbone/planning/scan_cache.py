"""Measurements of files, cached on disk, so that a killed measurement continues where it stopped."""
import contextlib
import hashlib
import json
import operator
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mae_backbone.data.index import cache_folder

Measure = Callable[[str], list]          # path of a file -> values that JSON can represent
Progress = Callable[[str, int, int], None]  # arguments: name of the measurement, files done, total number of files

_CHUNK = 256     # number of files that are submitted to the threads at once, which limits the results in memory
_COMMIT = 2.0    # seconds between writes. If the process is killed, the work since the last write is lost
_TIMEOUT = 30.0  # seconds to wait while another process writes to the same cache
_TABLE = ('CREATE TABLE IF NOT EXISTS files (kind TEXT, path TEXT, size INTEGER, time INTEGER, value TEXT, '
          'PRIMARY KEY (kind, path)) WITHOUT ROWID')


class FileStamp(NamedTuple):
    """Path, size and modification time of a file, to detect changes."""

    path: str
    size: int  # in bytes; -1 if the file does not exist
    time: int  # time of the last modification in ns

    @classmethod
    def of(cls, path: str) -> 'FileStamp':
        """Returns the current size and modification time of a file."""
        try:
            status = os.stat(path)
        except OSError:
            return cls(path, -1, 0)
        return cls(path, status.st_size, status.st_mtime_ns)


class ScanCache:
    """Measurements of the files of a data set, in an SQLite file of the cache folder.

    A damaged file is replaced by a new one. If no file can be written, the measurements are kept only in memory.

    Args:
        key: string that identifies the data set, such as its absolute path.
    """

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:24]
        self.path = cache_folder() / 'fingerprints' / f'{digest}.sqlite'
        self._connection = _open(self.path)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def stored(self, kind: str) -> dict[str, tuple[int, int, str]]:
        """Returns the cached measurements of a kind: size, time and value (JSON) by path of the file."""
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
                progress: Progress, failed: Callable[[list], bool] = operator.not_) -> list[list]:
        """Measures files in threads. Files that have not changed since a cached measurement are not measured again.

        Failures are not cached, because the cause may be outside of the file, such as a missing permission.

        Args:
            kind: name and version of the measurement, with the settings that it depends on. Change it if the values of
                the measurement change.
            files: files to measure.
            measure: called in a thread with the path of each file. It must not raise an error.
            workers: number of threads.
            progress: called every two seconds and at the end.
            failed: returns True for the result of a failed measurement; by default an empty list.

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
                if not failed(row):
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
        except (sqlite3.DatabaseError, OSError):
            continue
        try:
            connection.execute(_TABLE)
            return connection
        except sqlite3.DatabaseError:  # the file is damaged or not a database: remove it and try again
            connection.close()
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    raise AssertionError('SQLite cannot open a database in memory')


def no_progress(what: str, done: int, total: int) -> Any:
    """Does nothing. Default of arguments of the type `Progress`."""
