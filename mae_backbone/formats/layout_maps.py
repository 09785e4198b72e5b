"""Reads label maps with any file names: writes a list of pairs into the cache, for ListedSegDataset."""
import os
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mae_backbone.data.files import ImageWalk
from mae_backbone.data.label_colors import IGNORED, LabelColors, hex_color
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec, dicts_in
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.label_map_files import image_label_pairs, open_label_map, read_colors
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.layout_cache import is_written, layout_folder, to_json, write_once, write_record
from mae_backbone.formats.layouts.class_files import has_other_class_file, read_class_files
from mae_backbone.formats.layouts.labeled_set import LabeledImage, LabeledObject, LabeledSet
from mae_backbone.formats.layouts.map_classes import NUM_SAMPLED, hold_black_and_white
from mae_backbone.formats.layouts.map_pairs import MapSet, find_map_pairs
from mae_backbone.formats.layouts.registry import find_layout
from mae_backbone.formats.layouts.splits import MadeSplit, make_validation
from mae_backbone.utils.atomic_write import atomic_path

FORMAT = LabelMaps


def is_missing(spec: DatasetSpec) -> bool:
    """True if the folders of images and label maps in the config do not exist."""
    return is_written(spec.annotations) or not all(os.path.isdir(spec.folder(key))
                                                   for key in ('img_path', 'seg_map_path'))


def is_odd(spec: DatasetSpec) -> bool:
    """True if the data set must be converted although its folders exist.

    It has images with another suffix than the config expects, binary maps, or classes in another file than classes.txt.
    """
    folder = spec.folder('img_path')
    if is_written(spec.annotations) or not os.path.isdir(folder):
        return False
    return _has_other_suffixes(spec) or has_binary_maps(spec) or has_other_class_file(Path(spec.root))


def has_binary_maps(spec: DatasetSpec) -> bool:
    """True if the label maps of the config hold two classes as 0 and 255. As labels, 255 means pixels of no class."""
    folder, suffix = spec.folder('seg_map_path'), str(spec.option('seg_map_suffix'))
    names = [name for name in ImageWalk(folder) if name.endswith(suffix)] if os.path.isdir(folder) else []
    try:
        return hold_black_and_white(os.path.join(folder, name) for name in evenly_spaced(names, NUM_SAMPLED))
    except DataError:  # a broken file, which the check of the data set reports
        return False


def _has_other_suffixes(spec: DatasetSpec) -> bool:
    return any(not name.endswith(str(spec.option('img_suffix'))) for name in ImageWalk(spec.folder('img_path')))


def use(cfg: Config, root: str, specs: list[DatasetSpec], pattern: str) -> list[str]:
    """Changes data sets so that they read lists of pairs in the cache.

    Returns lines for the plan; none if no pairs are found.

    Raises:
        DataError: the label maps cannot be read.
    """
    if any(_is_read_as_configured(spec, root) for spec in specs):
        return []
    found = find_map_pairs(Path(root))
    if found is None:
        if layout := find_layout(root):
            raise DataError(f'{root} has labels in the layout of {layout.name}, which configs of detection read, such '
                            'as faster-rcnn_vit-micro_nuclei. To draw its polygons into label maps: mae-backbone '
                            f'import {root} DST --to labelmaps')
        return []
    if found.left_out['images without a label map'] and any(not is_missing(spec) for spec in specs):
        return []  # reported by the check of the data set
    import_module('mae_backbone.segmentation')  # registers ListedSegDataset
    made = split_pairs(found, pattern=pattern)
    folder, files, lines = _write_lists(found, root)
    lines = found.lines() + lines
    if made:
        lines.append(f'{made.line}; lists in {write_record(folder, made.record)}')
    for spec in specs:
        lines += _read_list(spec, files)
    return lines


def _is_read_as_configured(spec: DatasetSpec, root: str) -> bool:
    """True if the folders of the config exist, and the check of the data set reads them or reports their faults."""
    if is_missing(spec):
        return False
    try:
        image_label_pairs(spec)
    except DataError:
        if not _has_other_suffixes(spec):
            return True
    return not read_class_files(Path(root)).names and not has_binary_maps(spec)


def _write_lists(found: MapSet, root: str) -> tuple[Path, dict[str, str], list[str]]:
    """Writes a list of pairs for each split into the cache.

    Returns:
        The folder in the cache, the path of the list by split, and lines for the plan.
    """
    texts = {split: to_json([[pair.image, pair.map] for pair in found.pairs if pair.split == split])
             for split in SPLITS if any(pair.split == split for pair in found.pairs)}
    classes, lines = _class_file(found), []
    stamps = [_stamp(Path(root, pair.map)) for pair in found.pairs] if found.is_binary else []
    folder = layout_folder([*texts.values(), classes, str(Path(root).absolute()), *stamps])
    if found.is_binary:
        texts = _convert(found, folder)
        lines.append(f'layout: label maps of 0 and 255 are written as 0 and 1 into {folder}')
    files = {split: write_once(folder / f'{split}.json', text) for split, text in texts.items()}
    write_once(folder / 'classes.txt', classes)
    return folder, files, lines


def _read_list(spec: DatasetSpec, files: dict[str, str]) -> list[str]:
    """Changes a data set so that it reads the list of its split. Returns lines for the plan."""
    file, lines = files.get(spec.split, files['val']), []
    if spec.split == 'test' and 'test' in files:
        lines.append(f'test: the split of the data named test, {file}')
    if spec.option('reduce_zero_label'):
        lines.append(f'{spec.split}: labels count from 0 (reduce_zero_label=False instead of True in the config)')
    spec.cfg.update(type='mae_backbone.ListedSegDataset', ann_file=file, reduce_zero_label=False,
                    data_prefix=dict(img_path='', seg_map_path=''))
    for step in dicts_in(spec.option('pipeline')):
        step.pop('reduce_zero_label', None)
    return lines


def split_pairs(found: MapSet, *, pattern: str = '') -> MadeSplit | None:
    """Makes a validation split if the pairs have none. Changes `found.pairs`. See `make_validation`."""
    if any(pair.split == 'val' for pair in found.pairs):
        return None
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda pair: labels_in(found, pair.map), found.pairs))
    images = [LabeledImage(pair.image, (0, 0), [LabeledObject(str(label), (0, 0, 1, 1)) for label in labels.tolist()],
                           pair.split) for pair, labels in zip(found.pairs, shown, strict=True)]
    labeled = LabeledSet(found.root, 'label maps', [], images)
    made = make_validation(labeled, pattern=pattern)
    found.pairs = [pair._replace(split=image.split) for pair, image in zip(found.pairs, labeled.images, strict=True)]
    return made


def labels_in(found: MapSet, path: str) -> np.ndarray:
    """Returns the labels that occur in a label map."""
    labels = np.unique(read_map(found, path))
    return labels[labels != IGNORED]


def read_map(found: MapSet, path: str) -> np.ndarray:
    """Reads a label map: labels (H, W) uint8 from 0 on, 255 for pixels of no class.

    Raises:
        DataError: the map cannot be read, or has colors or numbers of no class.
    """
    full = str(found.root / path)
    try:
        labels = read_colors(full, LabelColors(found.colors, found.ignored)) if found.colors else None
        if labels is None:
            with open_label_map(full) as image:
                labels = np.asarray(image).squeeze()
    except Exception as error:  # PIL raises many kinds of errors for broken files
        raise DataError(f'{full} cannot be read as a label map ({type(error).__name__}: {error})') from error
    if labels.ndim != 2 or labels.dtype.kind not in 'bui':
        raise DataError(f'{full} has the shape {labels.shape}, expected one number per pixel')
    if found.is_binary:
        values = set(np.unique(labels).tolist())
        if {1, IGNORED} <= values:
            raise DataError(f'{full} has the numbers 1 and 255, and other label maps only have 0 and 255: replace 255 '
                            'by 1 in all of them if it is a class')
        if not values <= {0, 1, IGNORED}:
            raise DataError(f'{full} has other numbers than 0 and 255, which the other label maps have: maps must not '
                            'be smoothed or saved as JPEG')
        return (labels > 0).astype(np.uint8)
    wrong = set(np.unique(labels).astype(int).tolist()) - {*range(len(found.names)), IGNORED}
    if wrong:
        raise DataError(f'{full} has the numbers {sorted(wrong)[:5]}, expected 0 to {len(found.names) - 1} for the '
                        f'{len(found.names)} classes and {IGNORED}: correct it, or add the classes to classes.txt')
    return labels.astype(np.uint8)


def _class_file(found: MapSet) -> str:
    if not found.colors:
        return '\n'.join(found.names) + '\n'
    rows = [*zip(found.names, found.colors, strict=True), *(('-', color) for color in found.ignored)]
    return ''.join(f'{name} {hex_color((red << 16) + (green << 8) + blue)}\n' for name, (red, green, blue) in rows)


def _stamp(path: Path) -> str:
    status = path.stat()
    return f'{status.st_mtime_ns} {status.st_size}'


def _convert(found: MapSet, folder: Path) -> dict[str, str]:
    """Writes maps of 0 and 255 as maps of 0 and 1. Returns the lists of pairs of each split."""
    def convert(index: int) -> str:
        path = folder / f'{index}.png'
        if not path.is_file():
            with atomic_path(path, keep_suffix=True) as temporary:
                Image.fromarray(read_map(found, found.pairs[index].map)).save(temporary)
        return str(path)
    with ThreadPoolExecutor(8) as pool:
        maps = list(pool.map(convert, range(len(found.pairs))))
    pairs: dict[str, list[list[str]]] = {}
    for pair, path in zip(found.pairs, maps, strict=True):
        pairs.setdefault(pair.split, []).append([pair.image, path])
    return {split: to_json(listed) for split, listed in pairs.items()}
