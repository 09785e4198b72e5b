"""Which images a folder holds."""
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.jp2')


class ImageWalk:
    """Paths of the images under a folder, relative to it, sorted as whole paths are, one at a time.

    Linked folders are followed, each folder once, so that a loop of links ends. Hidden files and folders (`._a.jpg`,
    `.ipynb_checkpoints`) are left out, as is what is not a file (pipes, devices).

    Attributes:
        folders: those that were entered, relative to the root, and when they last changed (ns since 1970).
        others: how many files of each other suffix there were.
    """

    def __init__(self, root: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> None:
        self.root, self.suffixes = str(existing_folder(root)), frozenset(suffixes)
        self.folders: dict[str, int] = {}
        self.others: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        todo, visited = [''], set()  # names of folders end in '/'
        while todo:
            path = todo.pop()
            if path and path[-1] != '/':
                yield path
                continue
            status = os.stat(self._full(path))
            if (status.st_dev, status.st_ino) not in visited:
                visited.add((status.st_dev, status.st_ino))
                self.folders[path] = status.st_mtime_ns
                todo += sorted(self._inside(path), reverse=True)

    def _inside(self, path: str) -> Iterator[str]:
        for entry in scan(self._full(path)):
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                yield f'{path}{entry.name}/'  # so that it is sorted as the paths in it are
            elif suffix not in self.suffixes:
                self.others[suffix or '(none)'] += 1
            elif entry.is_file() or entry.is_symlink():  # a broken link stays: reading it says which file is missing
                yield f'{path}{entry.name}'

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path[:-1]) if path else self.root

    def nothing(self) -> ValueError:
        """What to say where there is no image."""
        seen = ', '.join(f'{count} {suffix}' for suffix, count in self.others.most_common(8)) or 'none at all'
        return ValueError(f'{os.path.abspath(self.root)} holds no images; other files there: {self.others.total()} '
                          f'({seen}). Images end in {" ".join(sorted(self.suffixes))}: convert the files, or choose '
                          'another folder with --data-root DIR')


def list_images(root: str | Path) -> list[Path]:
    """All images under `root` as `ImageWalk` finds them, sorted.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is not a folder.
        PermissionError: a folder may not be read.
        ValueError: there is no image.
    """
    walk = ImageWalk(root)
    images = [Path(walk.root, path) for path in walk]
    if not images:
        raise walk.nothing()
    return images


def existing_folder(root: str | Path) -> Path:
    root = Path(root).expanduser()
    advice = 'give the folder that holds the images: --data-root DIR, or data_root in the config'
    if not root.exists():
        raise FileNotFoundError(f'{root.absolute()} does not exist: {advice}')
    if not root.is_dir():
        raise NotADirectoryError(f'{root.absolute()} is a file, wanted a folder: {advice}')
    return root


def entries(folder: str | Path) -> list[os.DirEntry]:
    """What is in a folder, without hidden names."""
    return list(scan(folder))


def scan(folder: str | Path) -> Iterator[os.DirEntry]:
    """`entries`, one at a time: there may be millions."""
    try:
        with os.scandir(folder) as inside:
            yield from (entry for entry in inside if not entry.name.startswith('.'))
    except PermissionError as error:
        raise PermissionError(f'{folder} may not be read by this user: ask its owner for read and execute permission '
                              '(chmod u+rx), or choose another --data-root DIR') from error


def packed(paths: Iterable[Path]) -> np.ndarray:
    """Paths as one array: a list of a million objects would be copied into each worker as their counts change."""
    return np.array([os.fsencode(path) for path in paths])


def checked_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'image_size={image_size!r}, wanted a number of pixels or a pair (height, width) of them')
    return size
