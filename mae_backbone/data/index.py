"""Tables of the files in a data source, built once, cached on disk and memory-mapped by all processes of a machine."""
import contextlib
import hashlib
import json
import os
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_backbone.utils.atomic_write import atomic_path, write_text
from mae_backbone.utils.file_lock import locked
from mae_backbone.utils.printable import printable_lines

KEEP_FROM = 10_000  # entries; smaller tables are built in less time than it takes to check a cached one
_HEADER = 'header.json'
_DTYPES = ('uint8', 'uint32', 'int64')
# Nanoseconds. A folder that changed this recently may change again without a new time: clocks of file systems are
# coarse.
_TOO_YOUNG = 2_000_000_000
_UNKNOWN = -1  # placeholder for a time; no folder has it
_LONG = 5  # seconds after which progress is printed


class Names:
    """Strings in two arrays.

    A list would hold one object per string. Forked workers would copy the pages of these objects as their reference
    counts change.

    Args:
        text: all strings concatenated, in the encoding of file names, uint8.
        ends: end of each string in `text`, int64.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> 'Names':
        """Packs strings."""
        text, ends = bytearray(), array('q')
        for string in strings:
            text += os.fsencode(string)
            ends.append(len(text))
        return cls(np.frombuffer(text, np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f'{index} is not in 0..{len(self) - 1}')
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.text[start:int(self.ends[index])].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


class Stamp(NamedTuple):
    """Time and size of a file or folder that a table was built from, to detect later changes."""

    path: str
    time: int  # time of the last change in ns
    size: int  # size of a file in bytes; 0 for a folder

    @classmethod
    def of_file(cls, path: str | Path) -> 'Stamp':
        """The current state of a file."""
        status = os.stat(path)
        return cls(os.fspath(path), status.st_mtime_ns, status.st_size)

    @classmethod
    def of_folder(cls, path: str | Path, changed: int) -> 'Stamp':
        """The state of a folder; `changed` is its modification time (ns) before it was read."""
        return cls(os.fspath(path), changed if time.time_ns() - changed > _TOO_YOUNG else _UNKNOWN, 0)

    def holds(self) -> bool:
        """True if the file or folder is unchanged."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return self.time == status.st_mtime_ns and self.size in (0, status.st_size)


class Table:
    """Arrays by name. A table from the cache is pickled as the path of its folder, and processes share its memory.

    Args:
        folder: folder of the table in the cache, None for a table in memory.
        crc: checksum of the arrays.
    """

    def __init__(self, arrays: dict[str, np.ndarray], *, folder: Path | None = None, crc: int = 0) -> None:
        self.arrays, self.folder, self.crc = arrays, folder, crc

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def names(self, name: str) -> Names:
        """A column of strings that `columns` made."""
        return Names(self.arrays[name], self.arrays[f'{name}_ends'])

    def __reduce__(self) -> tuple:
        return (_reopen, (self.folder, self.crc)) if self.folder else (Table, (self.arrays,))


def columns(name: str, strings: Iterable[str]) -> dict[str, np.ndarray]:
    """Strings as two arrays of a table; `Table.names` reads them."""
    names = Names.of(strings)
    return {name: names.text, f'{name}_ends': names.ends}


def kept_table(key: str, build: Callable[[], tuple[dict[str, np.ndarray], list[Stamp]]]) -> Table:
    """Returns the table of a key: from the cache if everything it was built from is unchanged, otherwise built.

    Args:
        key: everything that the table depends on, including absolute paths. Messages show its first line.
        build: returns the arrays, and the files and folders that they were read from. The table is cached if its
            longest array has at least KEEP_FROM entries.
    """
    folder = cache_folder() / f'{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.table'
    with _one_process_at_a_time(folder):
        what = key.split('\n')[0]
        if folder.exists():
            try:
                table = load(folder, key=key)
                changed = next((stamp for stamp in _stamps(table) if not stamp.holds()), None)
                if changed is None:
                    return table
                say(f'the cached list of {what} is out of date because {changed.path} has changed: building it again')
            except (OSError, ValueError) as error:
                say(f'the cached list of {what} in {folder} is damaged ({error}): building it again')
        start = time.monotonic()
        arrays, stamps = build()
        entries = max(len(column) for column in arrays.values() if column.dtype != np.uint8)
        if entries < KEEP_FROM:
            return Table(arrays)
        try:
            save(folder, {**arrays, **columns('stamps', (stamp.path for stamp in stamps)),
                          'times': np.array([stamp.time for stamp in stamps], 'i8'),
                          'sizes': np.array([stamp.size for stamp in stamps], 'i8')}, key=key)
            table = load(folder, key=key)
        except OSError as error:
            say(f'the list of {what} cannot be cached in {folder.parent} ({error.strerror or error}): it will be built '
                'again in each run, and each worker may hold a copy. Set MAE_BACKBONE_CACHE to a folder with free '
                'space')
            return Table(arrays)
        if time.monotonic() - start > _LONG:
            say(f'{what}: {entries:,} entries in {time.monotonic() - start:.0f} s, cached in {folder} for the next run')
        return table


def _stamps(table: Table) -> Iterator[Stamp]:
    for stamp in zip(table.names('stamps'), table['times'].tolist(), table['sizes'].tolist(), strict=True):
        yield Stamp(*stamp)


def cache_folder() -> Path:
    """The cache: $MAE_BACKBONE_CACHE, else $XDG_CACHE_HOME/mae_backbone, else ~/.cache/mae_backbone."""
    chosen = os.environ.get('MAE_BACKBONE_CACHE')
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(base, 'mae_backbone')


# ---- files

def save(folder: Path, arrays: Mapping[str, np.ndarray], *, key: str) -> None:
    """Writes a table: one .npy file per array, then the header that names them.

    The header is replaced last and atomically. Until then the folder holds the old table, also after a kill.
    """
    folder.mkdir(parents=True, exist_ok=True)
    crc = _checksum(arrays)
    layout = {}
    for name, column in arrays.items():
        path = folder / f'{name}-{crc:08x}.npy'
        with atomic_path(path, durable=True) as temporary, open(temporary, 'wb') as file:
            np.save(file, column, allow_pickle=False)
        layout[name] = {'file': path.name, 'bytes': path.stat().st_size, 'dtype': column.dtype.name}
    write_text(folder / _HEADER, json.dumps({'key': key, 'crc': crc, 'arrays': layout}, indent=1), durable=True)
    for path in {*folder.glob('*.npy')} - {folder / entry['file'] for entry in layout.values()}:
        # The old table. Processes that mapped it keep it on POSIX; Windows refuses to delete it, and the next save
        # tries again.
        with contextlib.suppress(OSError):
            path.unlink()


def load(folder: Path, *, key: str | None = None, check: bool = True) -> Table:
    """Maps a table into memory.

    Args:
        key: the key that the table must have, None for any.
        check: also compare the checksum of all arrays, which reads them once.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the folder does not hold what `save` wrote for `key`.
    """
    try:
        header = json.loads((folder / _HEADER).read_bytes())
        saved_key, crc, layout = header['key'], header['crc'], header['arrays']
        if key not in (None, saved_key):
            raise ValueError('it belongs to another data set')
        arrays = {name: _mapped(folder, **entry) for name, entry in layout.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'its header is malformed: {error}') from error
    if check and crc != _checksum(arrays):
        raise ValueError('its checksum is wrong')
    return Table(arrays, folder=folder, crc=crc)


def _mapped(folder: Path, *, file: str, bytes: int, dtype: str) -> np.ndarray:
    if os.path.basename(file) != file or dtype not in _DTYPES:
        raise ValueError(f'its header names {file!r} with {dtype!r} numbers')
    size = (folder / file).stat().st_size
    if size != bytes:
        raise ValueError(f'{file} has {size:,} bytes instead of {bytes:,}')
    # As a plain array: slices of np.memmap are several times slower.
    column = np.asarray(np.load(folder / file, mmap_mode='r', allow_pickle=False))
    if column.dtype != np.dtype(dtype) or column.ndim != 1:
        raise ValueError(f'{file} holds {column.dtype} numbers of shape {column.shape}')
    return column


def _checksum(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for column in arrays.values():
        crc = zlib.crc32(np.ascontiguousarray(column).data, crc)
    return crc


def _reopen(folder: Path, crc: int) -> Table:
    """Opens the table of the parent process in a worker. Raises an error if another run has replaced it."""
    try:
        table = load(folder, check=False)
    except FileNotFoundError:  # deleted between header and arrays
        table = None
    if table is None or table.crc != crc:
        raise ValueError(f'{folder} was replaced by another run because the data have changed: start this run again')
    return table


# ---- progress

def progress(items: Iterable[str], what: str) -> Iterator[str]:
    """Yields the items, and prints their number so far every few seconds."""
    start = due = time.monotonic()
    for count, item in enumerate(items):
        if count % 1000 == 0 and time.monotonic() - due > _LONG:
            due = time.monotonic()
            say(f'{what}: {count:,} so far, {due - start:.0f} s')
        yield item


def say(line: str) -> None:
    """Prints a line, once in a distributed run."""
    if int(os.environ.get('RANK', 0)) == 0:
        print(printable_lines(line), flush=True)


@contextlib.contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    """Locks the cache: in a distributed run the first process builds a table, then the others load it."""
    if int(os.environ.get('WORLD_SIZE', 1)) == 1:
        yield
        return
    with locked(folder.with_suffix('.lock')):
        yield
