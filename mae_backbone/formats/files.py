"""Image files of a data set: missing ones, sizes from headers, and a decoded sample."""
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.formats.dataset_spec import DataError

NUM_DECODED = 50  # images per data set that are decoded before the start, evenly spaced in the list
_EXIF_ORIENTATION = 0x0112
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

Item = TypeVar('Item')


def missing_files(paths: Iterable[str]) -> list[str]:
    """Returns the paths that do not exist. Each folder is listed once, which is faster than a call per file."""
    contents: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in contents:
            contents[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if name not in contents[folder]:
            missing.append(path)
    # Some file systems ignore case or normalize accents, so that a name that is not listed may still exist.
    return [path for path in missing if not os.path.exists(path)]


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Returns at most `count` items, evenly spaced, in their order."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def decode_sample(split: str, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Decodes `NUM_DECODED` evenly spaced images and returns the (width, height) of each.

    Raises:
        DataError: at least one of them cannot be read.
    """
    sample = evenly_spaced(paths, NUM_DECODED)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(_decoded_size, sample))
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        raise DataError(f'{split}: {len(errors)} of {len(sample)} sampled images cannot be read: '
                        + '; '.join(str(error) for error in errors[:3]))
    return {path: result for path, result in zip(sample, results, strict=True) if isinstance(result, tuple)}


def image_size(path: str) -> tuple[int, int]:
    """Returns (width, height) of an image as `read_image` decodes it, from the file's header if possible.

    Raises:
        BadImageError, OSError: the image cannot be read.
    """
    try:
        with Image.open(path) as file:
            # PIL decodes a whole PNG to look for EXIF data that are not in its header.
            has_exif = file.format != 'PNG' or 'exif' in file.info
            if not (has_exif and file.getexif().get(_EXIF_ORIENTATION) in _TRANSPOSED):
                return file.size
    except UnidentifiedImageError:
        pass  # OpenCV reads a few formats that PIL does not.
    height, width, _ = read_image(path).shape
    return width, height


def _decoded_size(path: str | Path) -> tuple[int, int] | Exception:
    try:
        height, width, _ = read_image(path).shape
    except (BadImageError, OSError) as error:
        return error
    return width, height
