"""Where the bytes of images come from: folders, lists of files, shards."""
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mae_backbone.data.files import IMAGE_SUFFIXES, ImageWalk, existing_folder
from mae_backbone.data.index import Names, Stamp, Table, columns, kept_table, progress
from mae_backbone.data.shards import ShardSource, is_shards, shards_in

_CHECKED_LINES = 1000  # of a list, at its opening


class Source(Protocol):
    """Files in a fixed order. Cheap to pickle, and shared by the processes that hold it."""

    keys: Names  # paths of the files inside of the source

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """All bytes of a file. Raises OSError, with its name, where they cannot be had."""

    def name(self, index: int) -> str:
        """What a message calls it: a path, or that of a shard and what stands in there."""


def open_source(data_root: str | Path | Sequence[str | Path], *, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Source:
    """The images of a folder (flat or nested), a list of files, or shards.

    Large ones are listed once, in the cache folder ($MAE_BACKBONE_CACHE, otherwise ~/.cache/mae_backbone), and listed
    anew when a folder, list or shard has changed.

    Args:
        data_root: a folder of images; a folder of tar files; a tar file, or several; or a text file (.txt) with a path
            in each line, relative to the text file. Blank lines are ignored.
        suffixes: of the files to take, in lower case: those of the reader. A list names its files itself.

    Raises:
        OSError: it does not exist or cannot be read.
        ValueError: it is of another kind, or there is no image.
    """
    if not isinstance(data_root, (str, Path)):
        others = [path for path in data_root if not str(path).lower().endswith('.tar')]
        if others or not data_root:
            raise ValueError(f'data_root is a list with {others[:1] or "nothing"} in it, wanted paths of tar files')
        return ShardSource.open(data_root, suffixes)
    root = Path(data_root).expanduser()
    if root.is_file() and root.suffix.lower() == '.tar':
        return ShardSource.open([root], suffixes)
    if root.is_file() and root.suffix.lower() == '.txt':
        return ListSource.open(root)
    if root.is_file():
        raise NotADirectoryError(f'{root.absolute()} is a file, wanted a folder, a list of files (.txt) or a shard '
                                 '(.tar): give another --data-root, or data_root in the config')
    if is_shards(existing_folder(root)):
        return ShardSource.open(shards_in(root), suffixes)
    return FileSource.open(root, suffixes)


class FileSource:
    """Files by their paths, relative to a folder."""

    def __init__(self, root: str, table: Table) -> None:
        self.root, self.table, self.keys = root, table, table.names('paths')

    @classmethod
    def open(cls, root: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> 'FileSource':
        """The images under a folder, as `ImageWalk` finds them. Raises what `list_images` raises."""
        root = os.path.abspath(root)

        def build() -> tuple[dict[str, np.ndarray], list[Stamp]]:
            walk = ImageWalk(root, suffixes)
            table = columns('paths', progress(walk, f'looking for images in {root}'))
            if not len(table['paths']):
                raise walk.nothing()
            return table, [Stamp.of_folder(os.path.join(root, folder), time) for folder, time in walk.folders.items()]

        return cls(root, kept_table('\n'.join([root, 'folder', ' '.join(suffixes)]), build))

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple:
        return type(self), (self.root, self.table)

    def name(self, index: int) -> str:
        return os.path.join(self.root, self.keys[index])

    def read(self, index: int) -> bytes:
        with open(self.name(index), 'rb', buffering=0) as file:
            return file.read()


class ListSource(FileSource):
    """Files named in a text file, by paths relative to it. `root` is the text file."""

    @classmethod
    def open(cls, root: str | Path) -> 'ListSource':
        """The files in a list, in its order.

        Raises:
            FileNotFoundError: one of a thousand lines spread over the list names a file that does not exist.
            ValueError: the list is empty.
        """
        root = os.path.abspath(root)

        def build() -> tuple[dict[str, np.ndarray], list[Stamp]]:
            stamp = Stamp.of_file(root)  # before it is read
            return columns('paths', (path for _, path in lines(root))), [stamp]

        source = cls(root, kept_table(f'{root}\nlist', build))
        if not len(source):
            raise ValueError(f'{root} names no files: it must have a path in each line, relative to the list itself')
        for index in np.unique(np.linspace(0, len(source) - 1, _CHECKED_LINES).astype(int)).tolist():
            if not os.path.exists(source.name(index)):
                raise source._missing(index)
        return source

    def name(self, index: int) -> str:
        return os.path.join(os.path.dirname(self.root), self.keys[index])

    def read(self, index: int) -> bytes:
        try:
            return super().read(index)
        except (FileNotFoundError, ValueError) as error:  # ValueError: a zero byte in the path
            raise self._missing(index) from error

    def _missing(self, index: int) -> FileNotFoundError:
        line = next((line for entry, (line, _) in enumerate(lines(self.root)) if entry == index), '?')
        return FileNotFoundError(f'{self.name(index)} does not exist: line {line} of {self.root} names it, by a path '
                                 'relative to that list. Correct or remove the line')


def lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and content of the lines that are not blank."""
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b'\xef\xbb\xbf') if number == 1 else line  # a mark that Windows puts there
            if line.strip():
                yield number, os.fsdecode(line.rstrip(b'\r\n'))
