"""Finds and reads image files; only regular files are ever opened."""
import io
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mae_backbone.utils.printable import printable

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.jp2')
# Image files that are not read. They are counted in a warning, because they may be a part of the data.
_UNREAD_SUFFIXES = ('.gif', '.heic', '.heif', '.avif', '.jxl', '.tga', '.exr', '.dng', '.cr2', '.cr3', '.nef', '.arw',
                    '.dcm', '.jfif')
VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv')
_LOG = logging.getLogger(__name__)
_KINDS = {stat.S_IFIFO: 'a named pipe (FIFO)', stat.S_IFSOCK: 'a socket', stat.S_IFCHR: 'a device',
          stat.S_IFBLK: 'a device', stat.S_IFDIR: 'a folder'}
_SHOWN = 5  # number of skipped files in a warning


class ImageWalk:
    """Iterates over the images under a folder: paths relative to it, in the order of whole paths.

    Links to files and folders are followed. Each folder is entered once, so that cycles of links end. Hidden files and
    folders (`._a.jpg`, `.ipynb_checkpoints`) are left out. Pipes, devices and sockets are never opened, even if
    they have the name of an image. A broken link with the name of an image is kept: reading it names the missing file.

    Attributes:
        folders: entered folders, relative to the root, with their modification times (ns).
        others: number of files with each other suffix.
        skipped: names of images, relative to the root, that are not regular files, with the reasons.
    """

    def __init__(self, root: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> None:
        self.root, self.suffixes = str(existing_folder(root)), frozenset(suffixes)
        self.folders: dict[str, int] = {}
        self.others: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}

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
                todo += sorted(self._entries(path), reverse=True)

    def _entries(self, path: str) -> Iterator[str]:
        for entry in scan(self._full(path)):
            suffix, mode = os.path.splitext(entry.name)[1].lower(), file_type(entry)
            if mode == stat.S_IFDIR:
                yield f'{path}{entry.name}/'  # so that it is sorted like the paths in it
            elif suffix not in self.suffixes:
                self.others[suffix or '(none)'] += 1
            elif mode in (stat.S_IFREG, None):
                yield f'{path}{entry.name}'
            else:
                self.skipped[f'{path}{entry.name}'] = f'is {_KINDS.get(mode, "not a regular file")}'

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path[:-1]) if path else self.root

    def warn_of_skipped(self) -> None:
        """Logs skipped files and image files of other formats, if there are any, once in a distributed run."""
        if int(os.environ.get('RANK', 0)) != 0:
            return
        for suffixes, advice in ((_UNREAD_SUFFIXES, 'convert them to PNG or JPEG to use them'),
                                 (VIDEO_SUFFIXES, 'save their frames as images to use them, or predict each video')):
            unread = ', '.join(f'{self.others[suffix]:,} {suffix}' for suffix in suffixes
                               if self.others[suffix] and suffix not in self.suffixes)
            if unread:
                _LOG.warning('not read in %s: %s files; %s', printable(self.root), unread, advice)
        if self.skipped:
            names = ', '.join(f'{printable(os.path.join(self.root, name))} {reason}'
                              for name, reason in list(self.skipped.items())[:_SHOWN])
            more = f', and {len(self.skipped) - _SHOWN} more' if len(self.skipped) > _SHOWN else ''
            _LOG.warning('skipped: %s%s', names, more)

    def no_images(self) -> ValueError:
        """The error for a folder without images."""
        counts = ', '.join(f'{count} {printable(suffix)}' for suffix, count in self.others.most_common(8)) or 'none'
        return ValueError(f'{os.path.abspath(self.root)} holds no images; other files there: {self.others.total()} '
                          f'({counts}). Images end in {" ".join(sorted(self.suffixes))}: convert the files, or choose '
                          'another folder (in training: --data-root DIR)')


def list_images(root: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """All images under `root` in the order of `ImageWalk`. Logs paths that are not regular files.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is not a folder.
        PermissionError: a folder cannot be read.
        ValueError: there are no images.
    """
    walk = ImageWalk(root, suffixes)
    images = [Path(walk.root, path) for path in walk]
    walk.warn_of_skipped()
    if not images:
        raise walk.no_images()
    return images


def file_type(entry: os.DirEntry | Path) -> int | None:
    """File type of an entry after following links, such as `stat.S_IFREG`. None for broken and cyclic links."""
    if isinstance(entry, os.DirEntry) and not entry.is_symlink():  # known from the listing, without a system call
        if entry.is_file(follow_symlinks=False):
            return stat.S_IFREG
        if entry.is_dir(follow_symlinks=False):
            return stat.S_IFDIR
    try:
        return stat.S_IFMT(os.stat(entry).st_mode)
    except OSError:
        return None


def read_file(path: str | Path) -> bytes:
    """Content of a regular file.

    A named pipe would block, and a device may never end. Neither is opened.

    Raises:
        OSError: the file cannot be read, or is not a regular file. The message contains the path.
    """
    with open_regular(path) as file:
        return file.readall()


def open_regular(path: str | Path) -> io.FileIO:
    """Opens a regular file for reading. Raises as `read_file`."""
    _check_regular(os.stat(path), path)
    # If the file is replaced by a pipe in between, O_NONBLOCK keeps `open` from waiting.
    flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_CLOEXEC', 0)
    file = io.FileIO(os.open(path, flags), 'rb')
    try:
        _check_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, path: str | Path) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(f'{path} is {_KINDS.get(kind, "not a regular file")}, expected a regular file: remove it')


def existing_folder(root: str | Path) -> Path:
    """`root` with ~ expanded. Raises FileNotFoundError or NotADirectoryError if it is not a folder."""
    root = Path(root).expanduser()
    advice = 'pass a folder with images (in training: --data-root DIR, or data_root in the config)'
    if not root.exists():
        raise FileNotFoundError(f'{root.absolute()} does not exist: {advice}')
    if not root.is_dir():
        raise NotADirectoryError(f'{root.absolute()} is a file, expected a folder: {advice}')
    return root


def entries(folder: str | Path) -> list[os.DirEntry]:
    """Entries of a folder, without hidden names."""
    return list(scan(folder))


def scan(folder: str | Path) -> Iterator[os.DirEntry]:
    """`entries` as an iterator, for folders with millions of files."""
    try:
        with os.scandir(folder) as inside:
            yield from (entry for entry in inside if not entry.name.startswith('.'))
    except PermissionError as error:
        raise PermissionError(f'{folder} may not be read by this user: ask its owner for read and execute permission '
                              '(chmod u+rx), or choose another folder') from error


def packed(paths: Iterable[Path]) -> np.ndarray:
    """Returns paths as one array. The memory of a list would be copied to each worker when reference counts change."""
    return np.array([os.fsencode(path) for path in paths])


def checked_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Converts a side or a pair in pixels to (height, width). Raises ValueError for other values."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'image_size={image_size!r}, expected a number of pixels or a pair (height, width)')
    return size[0], size[1]
