"""Shards: images in tar files in WebDataset's layout, read in any order without unpacking."""
import os
import stat
import tarfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_backbone.data.files import IMAGE_SUFFIXES, file_type, scan
from mae_backbone.data.index import Stamp, Table, columns, kept_table, progress

_MAX_OPEN_FILES = 256  # per process; systems allow 1,024 by default


class Member(NamedTuple):
    """A file in a tar file."""

    name: str
    offset: int  # position of its first byte in the tar file
    size: int  # size in bytes


def is_shards(folder: str | Path) -> bool:
    """True if a folder holds tar files, but neither images nor folders."""
    has_tar = False
    for entry in scan(folder):
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix in IMAGE_SUFFIXES or file_type(entry) == stat.S_IFDIR:
            return False
        has_tar |= suffix == '.tar'
    return has_tar


def shards_in(folder: str | Path) -> list[str]:
    """The tar files of a folder, sorted."""
    return sorted(entry.path for entry in scan(folder) if entry.name.lower().endswith('.tar'))


def members(path: str | Path) -> Iterator[Member]:
    """Regular files in a tar file, from its headers. Nothing is unpacked, so that any name is safe.

    Raises:
        ValueError: the tar file is compressed, damaged or truncated.
    """
    advice = 'copy it again, or pack the images again (mae-backbone pack)'
    try:
        with tarfile.open(path, 'r:', errorlevel=2) as tar:
            # The offset is 0 if there are no members. Python 3.10 would seek before the start of the file.
            while tar.offset and (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # undocumented; otherwise tarfile keeps them all
                if info.isreg() and not info.issparse():
                    yield Member(info.name, info.offset_data, info.size)
            # For tarfile, a damaged or truncated header is the end of the file.
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(512).strip(b'\0'):
                raise ValueError(f'{path} is damaged or truncated at byte {tar.offset:,}: {advice}')
    except tarfile.TarError as error:
        raise ValueError(f'{path} is not a complete uncompressed tar file ({error}): {advice}') from error


class ShardSource:
    """Images in tar files, in the order of the files. Other members (labels, texts) are ignored.

    Args:
        table: index of the images, which `open` builds.
    """

    def __init__(self, table: Table) -> None:
        self.table, self.shards, self.keys = table, table.names('shards'), table.names('members')
        self._files: OrderedDict[int, int] = OrderedDict()  # shard -> descriptor, least recently used first

    @classmethod
    def open(cls, paths: Sequence[str | Path], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> 'ShardSource':
        """Opens the images in tar files; their index is cached.

        Raises:
            FileNotFoundError: a tar file does not exist.
            ValueError: there are no images, or a tar file is damaged.
        """
        files = [os.path.abspath(os.path.expanduser(path)) for path in paths]
        for path in files:
            if not os.path.isfile(path):
                raise FileNotFoundError(f'{path} is not a file, expected a shard: check data_root or --data-root')
        what = files[0] if len(files) == 1 else f'{len(files):,} shards starting with {files[0]}'
        return cls(kept_table('\n'.join([what, 'shards', ' '.join(suffixes), *files]),
                              lambda: _index(what, files, suffixes)))

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple:
        return ShardSource, (self.table,)

    def name(self, index: int) -> str:
        """SHARD/MEMBER."""
        return f'{self.shards[int(self.table["shard"][index])]}/{self.keys[index]}'

    def read(self, index: int) -> bytes:
        """Content of an image. Raises OSError if its shard has changed or cannot be read."""
        shard, size = int(self.table['shard'][index]), int(self.table['size'][index])
        # pread, because forked processes share the position in the file.
        data = os.pread(self._file(shard), size, int(self.table['offset'][index]))
        if len(data) != size:
            raise OSError(f'{self.name(index)}: the shard was truncated after it was indexed: copy it again')
        return data

    def _file(self, shard: int) -> int:
        file = self._files.get(shard)
        if file is None:
            if len(self._files) >= _MAX_OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            path = self.shards[shard]
            file = os.open(path, os.O_RDONLY | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_CLOEXEC', 0))
            status = os.fstat(file)
            if (status.st_size, status.st_mtime_ns) != (self.table['shard_size'][shard],
                                                        self.table['shard_time'][shard]):
                os.close(file)
                raise OSError(f'{path} has changed after it was indexed: start the run again')
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
        raise ValueError(f'{what}: no images, which end in {" ".join(suffixes)}: choose other shards')
    status = {'shard_size': array('q', (stamp.size for stamp in stamps)),
              'shard_time': array('q', (stamp.time for stamp in stamps))}
    numbers = {'shard': shard, 'offset': offset, 'size': size, **status}
    return {**names, **columns('shards', paths), **{name: np.array(column) for name, column in numbers.items()}}, stamps


def is_image(name: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """True if a member has the name of an image and is not hidden."""
    base = name.rsplit('/', 1)[-1]
    return base.lower().endswith(tuple(suffixes)) and not base.startswith('.')
