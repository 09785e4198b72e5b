"""Sources of image files: folders, lists of files, and shards."""
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mae_backbone.data.files import IMAGE_SUFFIXES, ImageWalk, existing_folder, read_file
from mae_backbone.data.index import Names, Stamp, Table, columns, kept_table, progress
from mae_backbone.data.shards import ShardSource, is_shards, shards_in

_CHECKED_LINES = 1000  # number of lines of a list whose files are checked when it is opened


class Source(Protocol):
    """Files in a fixed order. Cheap to pickle; processes share its memory."""

    keys: Names  # paths of the files inside the source

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Content of a file. Raises OSError with its name if it cannot be read."""

    def name(self, index: int) -> str:
        """Name of a file in messages: its path, or SHARD/MEMBER."""


def open_source(data_root: str | Path | Sequence[str | Path], *, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Source:
    """Opens a folder of images (flat or nested), a list of files, or shards.

    The listing of a large source is cached ($MAE_BACKBONE_CACHE, default ~/.cache/mae_backbone), and built again when a
    folder, list or shard has changed.

    Args:
        data_root: folder of images, folder of tar files, a tar file or several, or a text file (.txt) with one path per
            line, relative to the text file. Blank lines are ignored.
        suffixes: suffixes of the images in lower case, as the reader has them. Not used for lists.

    Raises:
        OSError: `data_root` does not exist or cannot be read.
        ValueError: `data_root` is of another kind, or has no images.
    """
    if not isinstance(data_root, (str, Path)):
        others = [path for path in data_root if not str(path).lower().endswith('.tar')]
        if others or not data_root:
            raise ValueError(f'data_root is a list with {others[:1] or "nothing"} in it, expected paths of tar files')
        return ShardSource.open(data_root, suffixes)
    root = Path(data_root).expanduser()
    if root.is_file() and root.suffix.lower() == '.tar':
        return ShardSource.open([root], suffixes)
    if root.is_file() and root.suffix.lower() == '.txt':
        return ListSource.open(root)
    if root.is_file():
        raise NotADirectoryError(f'{root.absolute()} is a file, expected a folder, a list of files (.txt) or a shard '
                                 '(.tar): give another --data-root, or data_root in the config')
    if is_shards(existing_folder(root)):
        return ShardSource.open(shards_in(root), suffixes)
    return FileSource.open(root, suffixes)


class FileSource:
    """Files of a folder.

    Args:
        root: the folder.
        table: paths relative to it, in the column `paths`.
    """

    def __init__(self, root: str, table: Table) -> None:
        self.root, self.table, self.keys = root, table, table.names('paths')

    @classmethod
    def open(cls, root: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> 'FileSource':
        """Opens the images under a folder in the order of `ImageWalk`. Raises the errors of `list_images`."""
        root = os.path.abspath(root)

        def build() -> tuple[dict[str, np.ndarray], list[Stamp]]:
            walk = ImageWalk(root, suffixes)
            table = columns('paths', progress(walk, f'looking for images in {root}'))
            walk.warn_of_skipped()
            if not len(table['paths']):
                raise walk.no_images()
            return table, [Stamp.of_folder(os.path.join(root, folder), time) for folder, time in walk.folders.items()]

        return cls(root, kept_table('\n'.join([root, 'folder', ' '.join(suffixes)]), build))

    def __len__(self) -> int:
        return len(self.keys)

    def __reduce__(self) -> tuple:
        return type(self), (self.root, self.table)

    def name(self, index: int) -> str:
        """Absolute path of a file."""
        return os.path.join(self.root, self.keys[index])

    def read(self, index: int) -> bytes:
        """Content of a file. Raises OSError if it cannot be read or is not a regular file."""
        return read_file(self.name(index))


class ListSource(FileSource):
    """Files that a text file names by paths relative to it. `root` is the text file."""

    @classmethod
    def open(cls, root: str | Path, suffixes: Sequence[str] = ()) -> 'ListSource':
        """Opens the files of a list in its order, with any suffix.

        Raises:
            FileNotFoundError: one of a thousand lines, evenly spaced, names a file that does not exist.
            ValueError: the list is empty.
        """
        root = os.path.abspath(root)

        def build() -> tuple[dict[str, np.ndarray], list[Stamp]]:
            stamp = Stamp.of_file(root)  # before it is read
            return columns('paths', (path for _, path in lines(root))), [stamp]

        source = cls(root, kept_table(f'{root}\nlist', build))
        if not len(source):
            raise ValueError(f'{root} names no files: expected one path per line, relative to the list')
        for index in np.unique(np.linspace(0, len(source) - 1, _CHECKED_LINES).astype(int)).tolist():
            if not os.path.exists(source.name(index)):
                raise source._missing(index)
        return source

    def name(self, index: int) -> str:
        """Absolute path of a file."""
        return os.path.join(os.path.dirname(self.root), self.keys[index])

    def read(self, index: int) -> bytes:
        """Content of a file. A missing file raises an error that names the line of the list."""
        try:
            return super().read(index)
        except (FileNotFoundError, ValueError) as error:  # ValueError: a zero byte in the path
            raise self._missing(index) from error

    def _missing(self, index: int) -> FileNotFoundError:
        line = next((line for entry, (line, _) in enumerate(lines(self.root)) if entry == index), '?')
        return FileNotFoundError(f'{self.name(index)} does not exist: line {line} of {self.root} names it, '
                                 'relative to the list. Correct or remove the line')


def lines(path: str) -> Iterator[tuple[int, str]]:
    """Numbers and contents of the lines of a text file that are not blank."""
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b'\xef\xbb\xbf') if number == 1 else line  # byte order mark of Windows
            if line.strip():
                yield number, os.fsdecode(line.rstrip(b'\r\n'))
