"""Pairs of images and label maps in folders of any names, found by equal file names and by the pixels of the maps."""
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.label_map_files import open_label_map
from mae_backbone.formats.names import name_key

_SAMPLED = 3       # files of each folder that are read
_MAX_VALUES = 64   # largest number of values or colors in a label map that no name identifies
_MIN_EQUAL = 0.8   # smallest fraction of pixels that are equal to their right neighbor in such a label map


class Pair(NamedTuple):
    """Paths of an image and its label map."""

    image: str
    map: str


def pairs_by_content(root: Path, names: Iterable[str], map_formats: Sequence[str]) -> list[Pair]:
    """Pairs the files of folders with label maps with the files of folders with images.

    A folder has label maps if each of its sampled files has few values in large regions. Files of two folders form
    pairs if their names are equal without the text that is common to all names of a folder, such as `_manual1`, and if
    the sampled pairs have equal sizes.

    Args:
        root: folder of the data.
        names: paths of all images relative to the root, with '/'.
        map_formats: suffixes of files that can be label maps, such as '.png'.

    Returns:
        The pairs in the order of the images; [] if no folder has label maps, or none of their files has an image.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[os.path.dirname(name)].append(name)
    maps = {folder: files for folder, files in folders.items() if _are_maps(root, files, map_formats)}
    if not maps:
        return []
    images = {folder: _by_key(files) for folder, files in folders.items() if folder not in maps}
    best: dict[str, tuple[tuple[int, ...], list[Pair]]] = {}  # by folder of images: rank of the pairs, and pairs
    for folder, files in sorted(maps.items()):
        by_key = _by_key(files)
        found = max(((_rank(other, folder, keys, by_key), other) for other, keys in images.items()), default=None)
        if found is None or found[0][0] == 0:
            continue
        pairs = [Pair(image, by_key[key]) for key, image in images[found[1]].items() if key in by_key]
        if _have_equal_sizes(root, pairs) and found[0] > best.get(found[1], ((0,), []))[0]:
            best[found[1]] = found[0], pairs
    return sorted(pair for _, pairs in best.values() for pair in pairs)


def _by_key(files: Sequence[str]) -> dict[str, str]:
    """Returns the files of a folder by their names without suffix and without the text that all names share."""
    stems = [name_key(PurePosixPath(name).stem) for name in files]
    start, end = (os.path.commonprefix(texts)  # noqa: RUF071 (texts, not paths)
                  for texts in (stems, [stem[::-1] for stem in stems]))
    # Digits are part of a number, such as 10 and 11. The name of a single file is kept.
    left, right = (len(re.sub(r'\d+$', '', text)) if len(stems) > 1 else 0 for text in (start, end))
    keys = {stem[left:len(stem) - right]: name for stem, name in zip(stems, files, strict=True)}
    return keys if len(keys) == len(files) else dict(zip(stems, files, strict=True))


def _rank(images: str, maps: str, image_keys: Mapping[str, str], map_keys: Mapping[str, str]) -> tuple[int, ...]:
    """Number of equal file names of two folders, and number of equal words in their paths, such as train."""
    words, other_words = ({*re.split(r'[/_\-. ]+', folder.lower())} for folder in (images, maps))
    return len(image_keys.keys() & map_keys.keys()), len(words & other_words)


def _are_maps(root: Path, files: Sequence[str], formats: Sequence[str]) -> bool:
    """True if sampled files have few values in large regions, and together more than one value."""
    if any(PurePosixPath(name).suffix.lower() not in formats for name in files):
        return False
    values: set[int] = set()
    for name in evenly_spaced(files, _SAMPLED):
        pixels = _read(root / name)
        if pixels is None:
            return False
        found = set(np.unique(pixels).tolist())
        equal = float((pixels[:, 1:] == pixels[:, :-1]).mean()) if pixels.shape[1] > 1 else 0.0
        if len(found) > _MAX_VALUES or equal < _MIN_EQUAL:
            return False
        values |= found
    return len(values) > 1


def _read(path: Path) -> np.ndarray | None:
    """Returns the values (H, W) of an image, colors as single numbers; None if it cannot be read as a label map."""
    try:
        with open_label_map(str(path)) as image:
            pixels = np.asarray(image)
    except Exception:  # PIL raises many kinds of errors for broken files
        return None
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        pixels = pixels[..., :3].astype(np.int64) @ np.array([65536, 256, 1])
    return pixels if pixels.ndim == 2 and pixels.dtype.kind in 'bui' else None


def _have_equal_sizes(root: Path, pairs: Sequence[Pair]) -> bool:
    for pair in evenly_spaced(pairs, _SAMPLED):
        try:
            with open_label_map(str(root / pair.image)) as image, open_label_map(str(root / pair.map)) as label_map:
                if sorted(image.size) != sorted(label_map.size):  # an image may be rotated by its EXIF orientation
                    return False
        except Exception:  # PIL raises many kinds of errors for broken files
            return False
    return True
