"""What a source holds, found once and kept on disk: tables that all processes of a machine map into memory."""
import contextlib
import hashlib
import json
import mmap
import os
import tempfile
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

KEEP_FROM = 10_000  # entries; fewer are found again in less time than it takes to check what was kept
_MAGIC = b'mae_backbone index 1\n'.ljust(24)
_DTYPES = ('u1', 'u4', 'i8')
_TOO_YOUNG = 2_000_000_000  # ns; a folder may change again without a new time, as clocks of file systems are coarse
_UNKNOWN = -1  # a time that no folder has
_LONG = 5  # seconds, after which one wants to know what is going on


class Names:
    """Strings without an object for each, which forked workers would copy as their counts change.

    Args:
        text: all strings one after the other, in the encoding of file names, uint8.
        ends: where each one ends, int64.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> 'Names':
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


class Stamp(NamedTuple):
    """A file or folder that a table was made from, and what tells that it has changed."""

    path: str
    time: int  # of its last change, ns
    size: int  # of a file; 0 for a folder

    @classmethod
    def of_file(cls, path: str | Path) -> 'Stamp':
        status = os.stat(path)
        return cls(os.fspath(path), status.st_mtime_ns, status.st_size)

    @classmethod
    def of_folder(cls, path: str | Path, changed: int) -> 'Stamp':
        """`changed`: its time before it was read."""
        return cls(os.fspath(path), changed if time.time_ns() - changed > _TOO_YOUNG else _UNKNOWN, 0)

    def holds(self) -> bool:
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return self.time == status.st_mtime_ns and self.size in (0, status.st_size)


class Table:
    """Arrays by name. One from a file is pickled as the name of the file, and shared by all who open it."""

    def __init__(self, arrays: dict[str, np.ndarray], *, file: Path | None = None, crc: int = 0) -> None:
        self.arrays, self.file, self.crc = arrays, file, crc

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def names(self, name: str) -> Names:
        return Names(self.arrays[name], self.arrays[f'{name}_ends'])

    def __reduce__(self) -> tuple:
        return (_reopen, (self.file, self.crc)) if self.file else (Table, (self.arrays,))


def columns(name: str, strings: Iterable[str]) -> dict[str, np.ndarray]:
    """Strings as two arrays of a table."""
    names = Names.of(strings)
    return {name: names.text, f'{name}_ends': names.ends}


def kept_table(key: str, build: Callable[[], tuple[dict[str, np.ndarray], list[Stamp]]]) -> Table:
    """The table of a key: from the cache where all that it was made from is unchanged, otherwise built and kept.

    Args:
        key: what the table depends on, absolute paths among it; its first line is what messages call it.
        build: gives the arrays, and the files and folders that they came from. The longest array decides, by KEEP_FROM,
            whether the table is worth a file.
    """
    file = cache_folder() / f'{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.index'
    with _alone(file):
        what = key.split('\n')[0]
        if file.exists():
            try:
                table = load(file, key=key)
                changed = next((stamp for stamp in _stamps(table) if not stamp.holds()), None)
                if changed is None:
                    return table
                say(f'the list of {what} is out of date, {changed.path} has changed: it is made anew')
            except (OSError, ValueError) as error:
                say(f'the list of {what} in {file} is damaged ({error}): it is made anew')
        start = time.monotonic()
        arrays, stamps = build()
        entries = max(len(column) for column in arrays.values() if column.dtype != np.uint8)
        if entries < KEEP_FROM:
            return Table(arrays)
        try:
            save(file, {**arrays, **columns('stamps', (stamp.path for stamp in stamps)),
                        'times': np.array([stamp.time for stamp in stamps], 'i8'),
                        'sizes': np.array([stamp.size for stamp in stamps], 'i8')}, key=key)
            table = load(file, key=key)
            if time.monotonic() - start > _LONG:
                say(f'{what}: {entries:,} entries in {time.monotonic() - start:.0f} s, kept in {file} for the next run')
            return table
        except OSError as error:
            say(f'the list of {what} cannot be kept in {file.parent} ({error.strerror}): it will be made anew each '
                'time, and each worker may hold a copy. Set MAE_BACKBONE_CACHE to a folder with room')
            return Table(arrays)


def _stamps(table: Table) -> Iterator[Stamp]:
    for stamp in zip(table.names('stamps'), table['times'].tolist(), table['sizes'].tolist(), strict=True):
        yield Stamp(*stamp)


def cache_folder() -> Path:
    chosen = os.environ.get('MAE_BACKBONE_CACHE')
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return Path(base, 'mae_backbone')


# ---- files

def save(file: Path, arrays: dict[str, np.ndarray], *, key: str) -> None:
    """Writes a table beside `file` and renames it, so that who opens it has the old one or the new one whole."""
    layout, at = {}, 0
    for name, column in arrays.items():
        dtype = column.dtype.newbyteorder('<').str.lstrip('<|')
        layout[name] = [dtype, at, len(column)]
        at += -(-column.nbytes // 64) * 64
    head = json.dumps({'key': key, 'crc': _checksum(arrays), 'bytes': at, 'arrays': layout}).encode()
    head = _MAGIC + len(head).to_bytes(8, 'little') + head
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f'{file.name}.', delete=False) as beside:
        try:
            beside.write(head.ljust(-(-len(head) // 64) * 64))
            for column in arrays.values():
                beside.write(column)
                beside.write(bytes(-column.nbytes % 64))
            beside.flush()
            os.fsync(beside.fileno())
            os.replace(beside.name, file)
        except BaseException:
            os.unlink(beside.name)
            raise


def load(file: Path, *, key: str | None = None, check: bool = True) -> Table:
    """Maps a table into memory.

    Raises:
        ValueError: it is not what `save` wrote for `key`; with `check` down to the last bit.
    """
    with open(file, 'rb') as opened:
        try:
            data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise ValueError('it is empty') from error
    if data[:len(_MAGIC)] != _MAGIC:
        raise ValueError('it begins otherwise')
    length = int.from_bytes(data[len(_MAGIC):len(_MAGIC) + 8], 'little')
    start = len(_MAGIC) + 8
    try:
        head = json.loads(data[start:start + length])
        named, crc, size, layout = (head[field] for field in ('key', 'crc', 'bytes', 'arrays'))
        start = -(-(start + length) // 64) * 64
        if key not in (None, named):
            raise ValueError('it belongs to something else')
        if len(data) != start + size:
            raise ValueError(f'it has {len(data):,} bytes instead of {start + size:,}')
        if any(dtype not in _DTYPES for dtype, _, _ in layout.values()):
            raise ValueError('it holds other types')
        arrays = {name: np.frombuffer(data, f'<{dtype}', count, start + at)
                  for name, (dtype, at, count) in layout.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'its head cannot be understood: {error}') from error
    if check and crc != _checksum(arrays):
        raise ValueError('its checksum is wrong')
    return Table(arrays, file=file, crc=crc)


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    crc = 0
    for column in arrays.values():
        crc = zlib.crc32(column, crc)
    return crc


def _reopen(file: Path, crc: int) -> Table:
    """In a worker: the same table, and not one that another run has put in its place since."""
    table = load(file, check=False)
    if table.crc != crc:
        raise ValueError(f'{file} was made anew by another run since this one began, as the data have changed: '
                         'start this run again')
    return table


# ---- while it takes long

def progress(items: Iterable[str], what: str) -> Iterator[str]:
    """The items, with a line every few seconds on how many there were so far."""
    start = due = time.monotonic()
    for count, item in enumerate(items):
        if count % 1000 == 0 and time.monotonic() - due > _LONG:
            due = time.monotonic()
            say(f'{what}: {count:,} so far, {due - start:.0f} s')
        yield item


def say(line: str) -> None:
    """Prints a line, once in a distributed run."""
    if int(os.environ.get('RANK', 0)) == 0:
        print(line, flush=True)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """In a distributed run one process after the other: the first makes what the others then find."""
    if int(os.environ.get('WORLD_SIZE', 1)) == 1:
        yield
        return
    lock = file.with_suffix('.lock')
    with contextlib.ExitStack() as stack:
        try:
            import fcntl
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(open(lock, 'wb'))
            fcntl.flock(handle, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, file systems without locks, a folder that cannot be written to:
            pass                        # each process looks for itself
        yield
