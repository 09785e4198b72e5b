"""Files of label maps: finds pairs of an image and its label map, reads label maps, and finds their faults."""
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmengine.fileio import list_dir_or_file
from PIL import Image

from mae_backbone.data.decode import DEFAULT, BadImageError
from mae_backbone.data.files import open_regular
from mae_backbone.data.image_header import size_fault
from mae_backbone.data.label_colors import IGNORED, Color, LabelColors, UnknownColorError
from mae_backbone.data.reading import Reading
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec, dicts_in
from mae_backbone.formats.files import missing_files
from mae_backbone.formats.image_headers import read_size
from mae_backbone.formats.label_map_palettes import MODE as PALETTE_MODE
from mae_backbone.formats.label_map_palettes import labels_by_palette, palette_colors
from mae_backbone.formats.messages import does_not_exist, first_few
from mae_backbone.formats.names import accent_hint

Reader = Callable[[str], np.ndarray]
# Modes of PIL with a color in each pixel.
_COLOR_MODES = ('RGB', 'RGBA', 'RGBX')


# ---- pairs

def image_label_pairs(spec: DatasetSpec) -> list[tuple[str, str]]:
    """Lists the paths of each image and its label map, as mmseg's BaseSegDataset finds them.

    Raises:
        DataError: there are no pairs, or the image or the label map of a pair is missing.
    """
    if spec.cls and spec.cls.__name__ == 'ListedSegDataset':
        pairs = read_pairs(spec.annotations, spec.root)
        _refuse_missing(pairs, spec.annotations, 'correct the list')
        return pairs
    folders = spec.folder('img_path'), spec.folder('seg_map_path')
    suffixes = str(spec.option('img_suffix')), str(spec.option('seg_map_suffix'))
    for folder, word in zip(folders, ('image', 'label map'), strict=True):
        if not os.path.isdir(folder):
            raise DataError(f'{word} folder {does_not_exist(folder)}: set data_prefix of the {spec.split} set, or '
                            'pass the folder of the data with --data-root DIR')
        _check_links(folder)
    if spec.annotations and not os.path.isdir(spec.annotations):
        return _listed_pairs(spec, folders, suffixes)
    images, maps = (_stems(folder, suffix) for folder, suffix in zip(folders, suffixes, strict=True))
    if not images:
        raise DataError(f'{folders[0]} has no images that end with {suffixes[0]!r}, it contains '
                        f'{_suffix_counts(folders[0])}: set img_suffix of the {spec.split} set')
    for i, word, stems, partners in ((0, 'images', images, maps), (1, 'label maps', maps, images)):
        unpaired, other = sorted(stems - partners), folders[1 - i]
        if unpaired:
            hint = accent_hint(os.path.join(other, stem + suffixes[1 - i]) for stem in unpaired)
            raise DataError(f'{len(unpaired):,} of {len(stems):,} {word} in {folders[i]} have no partner '
                            f'{other}/NAME{suffixes[1 - i]} ({first_few(stem + suffixes[i] for stem in unpaired)}); '
                            f'{other} contains {_suffix_counts(other)}: add or remove files, or set img_suffix and '
                            f'seg_map_suffix. Label maps must not be JPEG, whose compression changes labels{hint}')
    return [(os.path.join(folders[0], stem + suffixes[0]), os.path.join(folders[1], stem + suffixes[1]))
            for stem in sorted(images)]


def _check_links(folder: str, ancestors: tuple[str, ...] = (), done: set[str] | None = None) -> None:
    """Refuses symbolic links to a folder that contains them, because mmseg would follow them endlessly."""
    real, done = os.path.realpath(folder), set() if done is None else done
    if real in ancestors:
        raise DataError(f'{folder} is a link to {real}, which contains it: remove the link')
    if real in done:
        return
    with os.scandir(folder) as entries:
        folders = [entry.path for entry in entries if entry.is_dir()]
    for path in folders:
        _check_links(path, (*ancestors, real), done)
    done.add(real)


def _stems(folder: str, suffix: str) -> set[str]:
    names = list_dir_or_file(folder, list_dir=False, suffix=suffix, recursive=True)
    return {name.removesuffix(suffix) for name in names}


def _suffix_counts(folder: str) -> str:
    """Returns the number of files of each suffix in a folder."""
    suffixes = [os.path.splitext(name)[1] for name in list_dir_or_file(folder, list_dir=False, recursive=True)]
    return first_few(f'{suffixes.count(suffix):,} {suffix or "without suffix"}'
                     for suffix in sorted(set(suffixes))) or 'no files'


def _listed_pairs(spec: DatasetSpec, folders: tuple[str, str], suffixes: tuple[str, str]) -> list[tuple[str, str]]:
    """Returns the pairs in a text file with one name per line."""
    if not os.path.isfile(spec.annotations):
        raise DataError(f'list of images {does_not_exist(spec.annotations, suffix=".txt")}: set ann_file of the '
                        f'{spec.split} set')
    names = [line.strip() for line in Path(spec.annotations).read_text(encoding='utf-8').splitlines()]
    if not names:
        raise DataError(f'{spec.annotations} is empty: expected the name of one image per line, without suffix')
    pairs = [(os.path.join(folders[0], name + suffixes[0]), os.path.join(folders[1], name + suffixes[1]))
             for name in names]
    _refuse_missing(pairs, spec.annotations, 'correct the list, img_suffix or seg_map_suffix')
    return pairs


def read_pairs(path: str, root: str) -> list[tuple[str, str]]:
    """Reads a JSON list of pairs [image, label map], relative to `root` or absolute.

    Raises:
        DataError: the file is missing or is no such list.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8', errors='surrogateescape'))
    except OSError as error:
        raise DataError(f'list of images {does_not_exist(path, suffix=".json")}: set ann_file') from error
    except (ValueError, RecursionError) as error:
        raise DataError(f'{path} is not JSON ({error}): expected a list of pairs [image, label map]') from error
    if not isinstance(content, list) or not content or not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
            for pair in content):
        raise DataError(f'{path} is not a list of pairs [image, label map]: correct it')
    return [(os.path.join(root, image), os.path.join(root, label_map)) for image, label_map in content]


def _refuse_missing(pairs: list[tuple[str, str]], path: str, advice: str) -> None:
    missing = missing_files(path for pair in pairs for path in pair)
    if missing:
        raise DataError(f'{len(missing):,} files of the {len(pairs):,} names in {path} do not exist '
                        f'({first_few(missing)}): {advice}{accent_hint(missing)}')


# ---- pixels

def label_map_reader(spec: DatasetSpec) -> Reader:
    """Returns a function that reads the labels (H, W) of a label map by its path, before `reduce_zero_label`."""
    found = label_colors(spec)
    return partial(_read_labels, colors=LabelColors(*found) if found else None,
                   reduce_zero_label=bool(spec.option('reduce_zero_label')))


def _read_labels(path: str, colors: LabelColors | None, reduce_zero_label: bool) -> np.ndarray:
    labels = None if colors is None else read_colors(path, colors)
    if labels is None:
        with open_label_map(path) as image:
            return np.asarray(image).squeeze()  # as mmseg's LoadAnnotations does
    # With `reduce_zero_label`, 1 is later subtracted from labels. This is not done for labels in colors. Therefore 1 is
    # added here, so that the result is in both cases the labels before the subtraction.
    return labels + (labels != IGNORED) if reduce_zero_label else labels


def label_colors(spec: DatasetSpec) -> tuple[Sequence[Color], Sequence[Color]] | None:
    """Returns the colors of classes and of no class by which the pipeline of a data set reads its label maps."""
    for step in dicts_in(spec.option('pipeline')):
        if str(step.get('type')).endswith('LoadAnnotations') and step.get('palette'):
            return step['palette'], step.get('ignored') or ()
    return None


def read_colors(path: str, colors: LabelColors) -> np.ndarray | None:
    """Reads the labels (H, W) of a label map in colors, without its alpha channel.

    Returns None for a label map in numbers, after reading only its header, and for a map with a palette without colors
    of the classes.

    Raises:
        UnknownColorError: the map has colors that no class has.
        OSError, SyntaxError, ValueError: the file cannot be read.
    """
    with open_label_map(path) as image:
        if image.mode == PALETTE_MODE:
            return labels_by_palette(image, colors)
        return colors.labels(np.asarray(image)[..., :3]) if image.mode in _COLOR_MODES else None


@contextmanager
def open_label_map(path: str) -> Iterator[Image.Image]:
    """Opens a label map without decoding its pixels.

    Raises:
        BadImageError: it has more pixels than the limit of images.
        OSError, SyntaxError, ValueError: the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file, Image.open(file) as image:
        fault = size_fault(image.height, image.width)
        if fault:
            raise BadImageError(f'{path} {fault}')
        yield image


def read_labels(path: str, read: Reader) -> np.ndarray:
    """Reads a label map (H, W) uint8 with the reader of its data set.

    Raises:
        BadImageError: the file cannot be read, or does not have one number in 0..255 per pixel.
    """
    try:
        labels = read(path)
    except UnknownColorError as error:
        raise BadImageError(f'{path} has {error}') from error
    except Exception as error:  # PIL raises many kinds of errors for broken files
        raise BadImageError(f'{path} cannot be read as an image ({type(error).__name__}: {error}): copy it again, or '
                            'save it as PNG') from error
    fault = _type_fault(labels)
    if not fault and labels.size and not 0 <= labels.min() <= labels.max() <= IGNORED:
        fault = f'numbers from {labels.min()} to {labels.max()}'
    if fault:
        raise BadImageError(f'{path} has {fault}: expected one number in 0..{IGNORED} per pixel, as in an 8-bit PNG')
    return labels.astype(np.uint8)


def _type_fault(labels: np.ndarray) -> str:
    """Returns the reason why an array is not a label map with one integer per pixel; '' if it is one."""
    if labels.ndim != 2:
        return f'{labels.shape[-1]} channels' if labels.ndim == 3 else f'shape {labels.shape}'
    return '' if labels.dtype.kind in 'bui' else f'{labels.dtype} numbers'


# ---- inspection

@dataclass(frozen=True)
class LabelMapSummary:
    """Labels of a label map, or its faults as texts ('' if it does not have the fault)."""

    path: str
    labels: frozenset[int] = frozenset()
    ignored: float = 0.0        # fraction of the pixels with the label 255, and with `reduce_zero_label` also 0
    fault: str = ''             # reason why the label map cannot be read
    unknown_colors: str = ''    # colors that no class has
    size_mismatch: str = ''     # sizes of label map and image, if they differ
    palette: Mapping[int, Color] = field(default_factory=dict)  # colors of the indices, if the map has a palette


def summarize(read: Reader, ignored: Collection[int], image: str, path: str, *,
              reading: Reading = DEFAULT) -> LabelMapSummary:
    """Reads a label map and compares it with the header of its image.

    Args:
        read: reader of the label maps of the data set.
        ignored: labels of pixels that belong to no class.
        image: path of the image.
        path: path of the label map.
        reading: settings with which the image is decoded.

    Raises:
        DataError: the image cannot be read.
    """
    try:
        labels = read(path)
    except UnknownColorError as error:
        return LabelMapSummary(path, unknown_colors=str(error))
    except Exception as error:  # PIL raises many kinds of errors for broken files
        return LabelMapSummary(path, fault=f'{type(error).__name__}: {error}')
    if fault := _type_fault(labels):
        return LabelMapSummary(path, fault=fault)
    try:
        width, height = read_size(image, reading).upright
    except (OSError, ValueError) as error:
        raise DataError(f'image cannot be read: {error}') from error
    mismatch = '' if labels.shape == (height, width) else (
        f'{labels.shape[1]}x{labels.shape[0]}, the image is {width}x{height}')
    counts = _count(labels)
    with open_label_map(path) as file:
        palette = palette_colors(file)
    num_ignored = sum(count for label, count in counts.items() if label in ignored)
    return LabelMapSummary(path, frozenset(counts), num_ignored / max(1, labels.size), size_mismatch=mismatch,
                           palette=palette)


def _count(labels: np.ndarray) -> dict[int, int]:
    """Returns the number of pixels of each label that is present."""
    if labels.dtype == np.uint8:  # the histogram of OpenCV is many times faster than np.unique, and makes no copy
        counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
        return {int(label): int(counts[label, 0]) for label in np.flatnonzero(counts)}
    present, counts = np.unique(labels, return_counts=True)
    return dict(zip(present.astype(int).tolist(), counts.tolist(), strict=True))
