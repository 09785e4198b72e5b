"""Shards: images in tar files as WebDataset lays them out, read in any order without unpacking them."""
import os
import tarfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_backbone.data.files import IMAGE_SUFFIXES, scan
from mae_backbone.data.index import Stamp, Table, columns, kept_table, progress

_OPEN_FILES = 256  # at most, in each process; systems allow 1,024 by default


class Member(NamedTuple):
    """A file in a tar file."""

    name: str
    offset: int  # of its first byte
    size: int


def is_shards(folder: str | Path) -> bool:
    """Whether a folder holds tar files, and neither images nor folders."""
    found = False
    for entry in scan(folder):
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in IMAGE_SUFFIXES or entry.is_dir():
            return False
        found |= suffix == '.tar'
    return found


def shards_in(folder: str | Path) -> list[str]:
    """The tar files of a folder, sorted."""
    return sorted(entry.path for entry in scan(folder) if entry.name.lower().endswith('.tar'))


def members(path: str | Path) -> Iterator[Member]:
    """What a tar file holds, by its headers alone. Nothing is ever unpacked, so that names may be what they like.

    Raises:
        ValueError: it is compressed, damaged or cut off.
    """
    advice = 'copy it again, or pack it anew with tools/pack.py'
    try:
        with tarfile.open(path, 'r:', errorlevel=2) as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # it would keep all
                if info.isreg() and not info.issparse():
                    yield Member(info.name, info.offset_data, info.size)
            # A header that is damaged or cut off looks to tarfile like the end.
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(512).strip(b'\0'):
                raise ValueError(f'{path} is damaged or cut off at byte {tar.offset:,}: {advice}')
    except tarfile.TarError as error:
        raise ValueError(f'{path} is no whole tar file without compression ({error}): {advice}') from error


class ShardSource:
    """Images in tar files, in the order in which they were written. Other members (labels, texts) are ignored.

    Args:
        table: of `open`.
    """

    def __init__(self, table: Table) -> None:
        self.table, self.shards, self.keys = table, table.names('shards'), table.names('members')
        self._files: OrderedDict[int, int] = OrderedDict()  # shard -> descriptor, the last used one last

    @classmethod
    def open(cls, paths: Sequence[str | Path], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> 'ShardSource':
        """The images in some tar files, by an index that is made once.

        Raises:
            FileNotFoundError: a tar file does not exist.
            ValueError: there is no image, or what `members` raises.
        """
        paths = [os.path.abspath(os.path.expanduser(path)) for path in paths]
        for path in paths:
            if not os.path.isfile(path):
                raise FileNotFoundError(f'{path} is no file, wanted a shard: check data_root or --data-root')
        what = paths[0] if len(paths) == 1 else f'{len(paths):,} shards from {paths[0]} on'
        return cls(kept_table('\n'.join([what, 'shards', ' '.join(suffixes), *paths]),
                              lambda: _index(what, paths, suffixes)))

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple:
        return ShardSource, (self.table,)

    def name(self, index: int) -> str:
        return f'{self.shards[int(self.table["shard"][index])]}/{self.keys[index]}'

    def read(self, index: int) -> bytes:
        shard, size = int(self.table['shard'][index]), int(self.table['size'][index])
        # At a place, and not from the one where another process left off that has the same file since it was forked.
        data = os.pread(self._file(shard), size, int(self.table['offset'][index]))
        if len(data) != size:
            raise OSError(f'{self.name(index)}: the shard was cut off since it was indexed: copy it again')
        return data

    def _file(self, shard: int) -> int:
        file = self._files.get(shard)
        if file is None:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            path = self.shards[shard]
            file = os.open(path, os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_CLOEXEC', 0))
            status = os.fstat(file)
            if (status.st_size, status.st_mtime_ns) != (self.table['shard_size'][shard],
                                                        self.table['shard_time'][shard]):
                os.close(file)
                raise OSError(f'{path} has changed since it was indexed: start the run again')
            self._files[shard] = file
        self._files.move_to_end(shard)
        return file

    def __del__(self) -> None:
        for file in getattr(self, '_files', {}).values():
            os.close(file)


def _index(what: str, paths: list[str], suffixes: Sequence[str]) -> tuple[dict[str, np.ndarray], list[Stamp]]:
    stamps = [Stamp.of_file(path) for path in paths]  # before they are read
    shard, offset, size = array('q'), array('q'), array('q')

    def images() -> Iterator[str]:
        for number, path in enumerate(paths):
            for member in members(path):
                if is_image(member.name, suffixes):
                    shard.append(number)
                    offset.append(member.offset)
                    size.append(member.size)
                    yield member.name

    names = columns('members', progress(images(), f'reading the headers of {what}'))
    if not shard:
        raise ValueError(f'{what}: no images in there; they end in {" ".join(suffixes)}: choose other shards')
    status = {'shard_size': array('q', (stamp.size for stamp in stamps)),
              'shard_time': array('q', (stamp.time for stamp in stamps))}
    numbers = {'shard': shard, 'offset': offset, 'size': size, **status}
    return {**names, **columns('shards', paths), **{name: np.array(column) for name, column in numbers.items()}}, stamps


def is_image(name: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    base = name.rsplit('/', 1)[-1]
    return base.lower().endswith(tuple(suffixes)) and not base.startswith('.')
