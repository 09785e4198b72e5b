"""Label maps of mmseg's data sets: image files with the number of a class in each pixel."""
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import list_dir_or_file
from PIL import Image, UnidentifiedImageError

from mae_backbone.data.decode import read_image
from mae_backbone.data.label_colors import IGNORED, LabelColors, UnknownColorError
from mae_backbone.formats.dataset_spec import DataError, Source, absent, dicts_in, does_not_exist, evenly, some

LOOKED_AT = 500  # label maps of a split whose pixels are read; of a larger set so many at even distances
_COLORED = ('RGB', 'RGBA', 'RGBX')  # modes of PIL; of an image with a palette ('P') the indices count, as with mmseg
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises, on broken PNG too
_EXIF_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # those that exchange width and height


def check_label_maps(source: Source, pairs: list[tuple[str, str]]) -> list[str]:
    """Refuses label maps that do not belong to the images or to the classes; returns lines that say what there is.

    Args:
        source: of kind 'label maps'.
        pairs: what `pairs_of` gives for it.

    Raises:
        DataError: see there; images are not decoded, of label maps at most `LOOKED_AT`.
    """
    _check_config(source)
    values, drawn = _Values(source), evenly(pairs, LOOKED_AT)
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(partial(_look, reader_of(source)), *zip(*drawn, strict=True)))
    _refuse(source, looks, lambda look: look.fault, 'cannot be read as one number a pixel',
            'save them as PNG with one channel of 8 bits, which holds the number of the class, or give the colors of '
            'the classes in classes.txt, as #rrggbb after each name')
    _refuse(source, looks, lambda look: look.colors, 'hold colors that no class has',
            'add them to classes.txt, with the name - where they stand for no class, or correct the maps, which must '
            'not be smoothed nor be JPEG')
    _refuse(source, looks, lambda look: look.other_size, 'have another size than their image',
            'make each label map as large as its image, without smoothing (nearest neighbor)')
    _refuse(source, looks, values.not_allowed, f'hold numbers outside of {values}',
            'map the labels onto these numbers' + values.hint(looks))
    return _lines(source, len(pairs), looks, values)


def pairs_of(source: Source) -> list[tuple[str, str]]:
    """Paths of each image and its label map, as mmseg's BaseSegDataset finds them.

    Raises:
        DataError: there are none, or one of a pair is missing.
    """
    folders = source.folder('img_path'), source.folder('seg_map_path')
    suffixes = str(source.option('img_suffix')), str(source.option('seg_map_suffix'))
    for folder, word in zip(folders, ('images', 'label maps'), strict=True):
        if not os.path.isdir(folder):
            raise DataError(f'folder of {word} {does_not_exist(folder)}: set data_prefix of the {source.split} set, or '
                            'give the folder of the data with --data-root DIR')
    if source.annotations and not os.path.isdir(source.annotations):
        return _listed(source, folders, suffixes)
    images, maps = (_stems(folder, suffix) for folder, suffix in zip(folders, suffixes, strict=True))
    if not images:
        raise DataError(f'{folders[0]} has no images that end with {suffixes[0]!r}, it holds {_endings(folders[0])}: '
                        f'set img_suffix of the {source.split} set')
    for i, word, (these, those) in ((0, 'images', (images, maps)), (1, 'label maps', (maps, images))):
        alone = sorted(these - those)
        if alone:
            other = folders[1 - i]
            raise DataError(f'{len(alone):,} of {len(these):,} {word} in {folders[i]} have no partner '
                            f'{other}/NAME{suffixes[1 - i]} ({some(name + suffixes[i] for name in alone)}); {other} '
                            f'holds {_endings(other)}: add or remove files, or set img_suffix and seg_map_suffix')
    return [(os.path.join(folders[0], name + suffixes[0]), os.path.join(folders[1], name + suffixes[1]))
            for name in sorted(images)]


def _stems(folder: str, suffix: str) -> set[str]:
    names = list_dir_or_file(folder, list_dir=False, suffix=suffix, recursive=True)
    return {name.removesuffix(suffix) for name in names}


def _endings(folder: str) -> str:
    """How many files of which suffix a folder holds."""
    suffixes = [os.path.splitext(name)[1] for name in list_dir_or_file(folder, list_dir=False, recursive=True)]
    counts = [f'{suffixes.count(suffix):,} {suffix or "without suffix"}' for suffix in sorted(set(suffixes))]
    return some(counts) or 'no files'


def _listed(source: Source, folders: tuple[str, str], suffixes: tuple[str, str]) -> list[tuple[str, str]]:
    """The pairs that a text file with a name a line chooses."""
    if not os.path.isfile(source.annotations):
        raise DataError(f'list of images {does_not_exist(source.annotations, suffix=".txt")}: set ann_file of the '
                        f'{source.split} set')
    names = [line.strip() for line in Path(source.annotations).read_text(encoding='utf-8').splitlines()]
    if not names:
        raise DataError(f'{source.annotations} is empty: wanted the name of an image a line, without suffix')
    pairs = [tuple(os.path.join(folder, name + suffix) for folder, suffix in zip(folders, suffixes, strict=True))
             for name in names]
    missing = absent(path for pair in pairs for path in pair)
    if missing:
        raise DataError(f'{len(missing):,} files for the {len(names):,} names in {source.annotations} do not exist '
                        f'({some(missing)}): correct the list, img_suffix or seg_map_suffix')
    return pairs


def _check_config(source: Source) -> None:
    """What mmseg would find out in the middle of a run."""
    if not source.classes:
        raise DataError(f'the classes of {source.root} have no names: write them into {source.root}/classes.txt, one a '
                        'line, the first for label 0')
    count, most = len(source.default_classes or source.classes), IGNORED - bool(source.option('reduce_zero_label'))
    if count > most:  # LoadAnnotations casts what it reads to 8 bits, in which 255 stands for no class
        raise DataError(f'{source.root} has {count} classes, wanted at most {most}: mmseg reads label maps with 8 bits '
                        'a pixel, so that larger numbers would become those of other classes; join or drop classes')
    said = {step['reduce_zero_label'] for step in dicts_in(source.option('pipeline'))
            if step.get('reduce_zero_label') is not None}
    if said - {source.option('reduce_zero_label')}:
        raise DataError(f'the {source.split} set has reduce_zero_label={source.option("reduce_zero_label")}, '
                        f'LoadAnnotations of its pipeline {some(said)}: remove it from LoadAnnotations')


# ---- pixels

@dataclass(frozen=True)
class _Look:
    """What there is to say about a label map: its path, the values in it, what is wrong."""
    path: str
    values: frozenset[int] = frozenset()
    fault: str = ''
    colors: str = ''
    other_size: str = ''


def _look(read: Callable[[str], np.ndarray], image: str, path: str) -> _Look:
    try:
        labels = read(path)
    except UnknownColorError as error:
        return _Look(path, colors=str(error))
    except UNREADABLE as error:
        return _Look(path, fault=f'{type(error).__name__}: {error}')
    if fault := fault_of(labels):
        return _Look(path, fault=fault)
    try:
        size = image_size(image)
    except (OSError, ValueError) as error:
        raise DataError(f'image cannot be read: {error}') from error
    other = '' if labels.shape[::-1] == size else '{}x{}, the image is {}x{}'.format(*labels.shape[::-1], *size)
    return _Look(path, _values(labels), other_size=other)


def fault_of(labels: np.ndarray) -> str:
    """Why what was read from a file is no label map: it is not one whole number a pixel. '' where it is."""
    if labels.ndim != 2:
        return f'{labels.shape[-1]} channels' if labels.ndim == 3 else f'shape {labels.shape}'
    return '' if labels.dtype.kind in 'bui' else f'{labels.dtype} numbers'


def read_colors(path: str, colors: LabelColors) -> np.ndarray | None:
    """The classes (H, W) of a label map in colors, whatever its alpha; None, from the head alone, of one in numbers.

    Raises:
        UnknownColorError: it has colors that no class has.
        OSError, SyntaxError, ValueError: it cannot be read.
    """
    with Image.open(path) as file:
        return colors.labels(np.asarray(file)[..., :3]) if file.mode in _COLORED else None


def reader_of(source: Source) -> Callable[[str], np.ndarray]:
    """Reads a label map of a data set: the numbers that stand in it, or would if they were no colors."""
    colors, reduced = colors_of(source), source.option('reduce_zero_label')

    def read(path: str) -> np.ndarray:
        labels = None if colors is None else read_colors(path, colors)
        if labels is None:
            with Image.open(path) as file:
                return np.asarray(file).squeeze()  # as mmseg's LoadAnnotations has it
        return labels + (labels != IGNORED) if reduced else labels  # colors are not reduced
    return read


def colors_of(source: Source) -> LabelColors | None:
    """The colors by which the pipeline of a data set reads its label maps."""
    for step in dicts_in(source.option('pipeline')):
        if str(step.get('type')).endswith('LoadAnnotations') and step.get('palette'):
            return LabelColors(step['palette'], step.get('ignored') or ())
    return None


def _values(labels: np.ndarray) -> frozenset[int]:
    if labels.dtype == np.uint8:  # counting is many times faster than sorting, and OpenCV does it without a copy
        counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
        return frozenset(np.flatnonzero(counts).tolist())
    return frozenset(np.unique(labels).astype(int).tolist())


def image_size(path: str) -> tuple[int, int]:
    """Width and height of an image as `read_image` gives it, from the head of its file where that says it."""
    try:
        with Image.open(path) as file:
            # Asking a PNG for EXIF data that are not in its head would decode all of it.
            has_exif = file.format != 'PNG' or 'exif' in file.info
            if not (has_exif and file.getexif().get(_EXIF_ORIENTATION) in _TURNED):
                return file.size
    except UnidentifiedImageError:
        pass  # OpenCV knows a few formats more
    height, width, _ = read_image(path).shape
    return width, height


# ---- against the classes

class _Values:
    """The numbers that the label maps of a data set may hold."""

    def __init__(self, source: Source) -> None:
        # A config may choose some of the classes of a type of data set: the maps hold the numbers of all of them.
        self.names = source.default_classes or source.classes
        self.reduced = bool(source.option('reduce_zero_label'))
        self.ignored = int(source.option('ignore_index'))
        self.allowed = {*range(len(self.names) + self.reduced), self.ignored}

    def __str__(self) -> str:
        zero = ' (0 is ignored: reduce_zero_label=True)' if self.reduced else ''
        return f'0..{len(self.names) - 1 + self.reduced}{zero} and {self.ignored} (ignored)'

    def seen(self, looks: Iterable[_Look]) -> set[int]:
        return set().union(*(look.values for look in looks))

    def not_allowed(self, look: _Look) -> str:
        return some(sorted(look.values - self.allowed))

    def hint(self, looks: Iterable[_Look]) -> str:
        """Names the commonest mistake where the numbers look like it."""
        more = ', or add the missing classes to classes.txt'
        if not self.reduced and self.seen(looks) - self.allowed == {len(self.names)}:
            more += '; if 0 stands for no class, set reduce_zero_label=True of the data sets'
        return more


def _refuse(source: Source, looks: list[_Look], fault_of: Callable[[_Look], str], what: str, advice: str) -> None:
    wrong = [(look, fault_of(look)) for look in looks if fault_of(look)]
    if wrong:
        examples = '; '.join(f'{look.path}: {fault}' for look, fault in wrong[:3])
        raise DataError(f'{source.split}: {len(wrong):,} of {len(looks):,} label maps looked at {what} ({examples}): '
                        f'{advice}')


def _lines(source: Source, pairs: int, looks: list[_Look], values: _Values) -> list[str]:
    seen, names = values.seen(looks), values.names
    unseen = [name for label, name in enumerate(names, start=values.reduced) if label not in seen]
    if source.split == 'train' and len(names) > 1 and len(unseen) >= len(names) - 1:
        raise DataError(f'the {len(looks):,} label maps of training looked at hold only {some(sorted(seen))}, so '
                        f'there is nothing to tell apart: wanted the numbers {values}; masks of 0 and 255 must become '
                        '0 and 1')
    lines = [f'{source.split}: {pairs:,} images with label maps of {len(names)} classes, {len(looks):,} looked at']
    if unseen:
        lines.append(f'{source.split}: classes without a pixel there ({some(unseen)}): {len(unseen)}')
    if values.reduced and 0 in seen and len(names) not in seen:
        lines.append(f'{source.split}: label 0 is ignored (reduce_zero_label=True), and there is no label '
                     f'{len(names)}: if 0 is {names[0]}, set reduce_zero_label=False of all data sets, and none in '
                     'LoadAnnotations')
    return lines
