"""Which images a folder holds."""
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.jp2')


def list_images(root: str | Path, *, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """All files under `root` with one of the suffixes (in any case), sorted.

    Linked folders are followed, each folder once, so that a loop of links ends. Hidden files and folders (`._a.jpg`,
    `.ipynb_checkpoints`) are left out, as is what is not a file (pipes, devices).

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is not a folder.
        PermissionError: a folder may not be read.
        ValueError: there is no image.
    """
    root = existing_folder(root)
    images, others, visited, todo = [], Counter(), set(), [str(root)]
    while todo:
        folder = todo.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        for entry in entries(folder):
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                todo.append(entry.path)
            elif suffix not in suffixes:
                others[suffix or '(none)'] += 1
            elif entry.is_file() or entry.is_symlink():  # a broken link stays: reading it says which file is missing
                images.append(entry.path)
    if not images:
        raise ValueError(_no_images(root, others, suffixes))
    return [Path(path) for path in sorted(images)]


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
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith('.')]
    except PermissionError as error:
        raise PermissionError(f'{folder} may not be read by this user: ask its owner for read and execute permission '
                              '(chmod u+rx), or choose another --data-root DIR') from error


def _no_images(root: Path, others: Counter, suffixes: Sequence[str]) -> str:
    seen = ', '.join(f'{count} {suffix}' for suffix, count in others.most_common(8)) or 'none at all'
    return (f'{root.absolute()} holds no images; other files there: {others.total()} ({seen}). Images end in '
            f'{" ".join(suffixes)}: convert the files, or choose another folder with --data-root DIR')


def packed(paths: Iterable[Path]) -> np.ndarray:
    """Paths as one array: a list of a million objects would be copied into each worker as their counts change."""
    return np.array([os.fsencode(path) for path in paths])


def checked_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'image_size={image_size!r}, wanted a number of pixels or a pair (height, width) of them')
    return size
