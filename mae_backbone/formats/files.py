"""Checks the image files of a data set: missing files, files outside of its folder, and a decoded sample."""
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from mae_backbone.data.bit_depth import NUM_SAMPLED, bit_depth_warning
from mae_backbone.data.decode import DEFAULT, BadImageError, Decoding
from mae_backbone.data.files import open_regular
from mae_backbone.data.reading import Reading, read_pixels
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.utils.printable import printable

ALLOW_OUTSIDE = 'MAE_BACKBONE_ALLOW_OUTSIDE'  # environment variable that allows images outside of the data root
_LOG = logging.getLogger(__name__)
NUM_DECODED = 50  # number of images per data set that are decoded before a run starts, evenly spaced in the list
_NUM_PEEKED = 2**16  # number of bytes of a file that are read to recognize its format

Item = TypeVar('Item')


def peek(path: str | Path) -> str:
    """Returns the first 64 KB of a file as text; '' if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(_NUM_PEEKED).decode('utf-8-sig', 'replace')
    except OSError:
        return ''


def text_fault(path: str | Path) -> str:
    """Describes a file that is empty or not text in UTF-8, with what to do; '' for any other file."""
    text = peek(path)
    if '\0' in text or '\ufffd' in text[:1000]:
        return 'is not text in UTF-8: save it again in UTF-8'
    return '' if text.strip() else 'is empty: copy or export it again'


def refuse_faulty_text(path: Path) -> None:
    """Raises DataError for a file of labels that no layout would recognize, because it is empty or not UTF-8."""
    if fault := text_fault(path):
        raise DataError(f'{path} {fault}, or remove it')


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


def paths_outside(paths: Iterable[str], folders: Sequence[str]) -> list[str]:
    """Returns the paths that are in none of the folders. Symbolic links are not resolved."""
    roots = [os.path.join(os.path.abspath(folder), '') for folder in folders if folder]
    current = os.path.abspath('')
    absolute = (os.path.normpath(os.path.join(current, path)) for path in paths)
    return [path for path in absolute if not any(path.startswith(root) for root in roots)] if roots else []


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """Returns at most `count` items, evenly spaced, in their order."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def decode_sample(split: str, paths: Sequence[str], reading: Reading = DEFAULT) -> dict[str, tuple[int, int]]:
    """Decodes `NUM_DECODED` evenly spaced images and returns the (width, height) of each.

    Warns if they are 16-bit images that use a small part of their range, and `reading` does not scale them.

    Raises:
        DataError: at least one of them cannot be read.
    """
    sample = evenly_spaced(paths, NUM_DECODED)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(partial(_decoded_size, reading=reading), sample))
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        raise DataError(f'{split}: {len(errors)} of {len(sample)} sampled images cannot be read: '
                        + '; '.join(printable(str(error)) for error in errors[:3]))
    is_plain = isinstance(reading, Decoding) and reading.value_range is None and reading.percentiles is None
    warning = bit_depth_warning(sample[:NUM_SAMPLED]) if is_plain else ''
    if warning:
        _LOG.warning('%s: %s (not needed if the config does so already)', split, warning)
    return {path: result for path, result in zip(sample, results, strict=True) if isinstance(result, tuple)}


def _decoded_size(path: str | Path, reading: Reading) -> tuple[int, int] | Exception:
    try:
        height, width, _ = read_pixels(path, reading).shape
    except (BadImageError, OSError) as error:
        return error
    return width, height
