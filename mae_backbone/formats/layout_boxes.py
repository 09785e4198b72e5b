"""Reads boxes and polygons in layouts of other programs: writes COCO files into the cache, for CocoDataset."""
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec, dicts_in
from mae_backbone.formats.inner_folder import inner_folder
from mae_backbone.formats.layout_cache import is_written, layout_folder, to_json, write_once, write_record
from mae_backbone.formats.layouts.labeled_set import LabeledSet
from mae_backbone.formats.layouts.map_pairs import find_map_pairs
from mae_backbone.formats.layouts.registry import read_layout
from mae_backbone.formats.layouts.splits import make_validation
from mae_backbone.formats.messages import first_few

FORMAT = CocoFormat
_SPLITS = ('train', 'training', 'train2017', 'val', 'validation', 'valid', 'val2017')
_IMAGES = ('images', 'image', 'imgs')


class CachedSet(NamedTuple):
    """Files of a data set in the cache."""

    folder: Path
    splits: dict[str, str]  # annotation file of each split
    lines: list[str]        # for the plan


def is_missing(spec: DatasetSpec) -> bool:
    """True if the annotation file in the config does not exist."""
    return is_written(spec.annotations) or not os.path.isfile(spec.annotations)


def is_odd(spec: DatasetSpec) -> bool:
    """True if the images of a COCO file are not in the folder of the config, but in another usual one."""
    return not is_missing(spec) and not os.path.isdir(spec.folder('img')) and (
        image_folder(Path(spec.root), Path(spec.annotations)) is not None)


def use(cfg: Config, root: str, specs: list[DatasetSpec], pattern: str) -> list[str]:
    """Changes data sets and their evaluators so that they read COCO files in the cache.

    The split 'test' of the data is used for testing if it has labels, otherwise 'val'. If the layout of the folder is
    not recognized, its only folder with labels is read, such as data/ of a project. COCO files of the config are read
    in place if only their images are in another folder. Returns lines for the plan; none if no layout is recognized.

    Raises:
        DataError: the labels cannot be read, or are label maps.
    """
    if any(map(is_odd, specs)) and all(is_odd(spec) or os.path.isdir(spec.folder('img')) for spec in specs):
        return [_set_image_folder(spec) for spec in specs if is_odd(spec)]
    folder = Path(root)
    labeled, notes = read_layout(folder), list[str]()
    while labeled is None and (inner := inner_folder(folder)):
        folder = inner.path
        labeled = read_layout(folder)
        if inner.others:
            notes.append(f'layout: only {folder} is read: other folders have no labels ({first_few(inner.others)})')
    if labeled is None:
        if has_maps(root):
            raise DataError(f'{root} has label maps, which configs of segmentation read, such as '
                            f'upernet_vit-micro_camvid. To detect their regions: mae-backbone import {root} DST --to '
                            'coco')
        return []
    cached = cache(labeled, pattern=pattern)
    lines = [*cached.lines, *notes]
    for spec in specs:
        file = cached.splits.get(spec.split, cached.splits['val'])
        if spec.split == 'test' and 'test' in cached.splits:
            lines.append(f'test: the split of the data named test, {file}')
        for evaluator in _evaluators(cfg, spec.split):
            if evaluator.get('ann_file'):
                evaluator['ann_file'] = file
        spec.cfg.ann_file = file
        spec.cfg.data_prefix = dict(img='' if folder == Path(root) else f'{folder.relative_to(root).as_posix()}/')
    return lines


def cache(labeled: LabeledSet, *, pattern: str = '') -> CachedSet:
    """Writes a data set as COCO files into the cache. Makes a validation split first if the data have none.

    The name of the folder is a hash of the content, so that the same data are written to the same files.

    Raises:
        DataError: a validation split cannot be made.
    """
    made = make_validation(labeled, pattern=pattern)
    texts = {split: to_json(labeled.content(split)) for split in SPLITS if split in labeled.splits}
    folder = layout_folder(texts.values())
    files = {split: write_once(folder / f'instances_{split}.json', text) for split, text in texts.items()}
    lines = labeled.lines()
    if made:
        lines.append(f'{made.line}; lists in {write_record(folder, made.record)}')
    with_labels = {image.split for image in labeled.images if image.objects}
    return CachedSet(folder, {split: file for split, file in files.items() if split != 'test' or 'test' in with_labels},
                     lines)


def image_folder(root: Path, annotations: Path) -> str | None:
    """Returns the folder of the images of an annotation file, relative to the root, such as 'images/train/'.

    It is the first of the usual folders that contains the first 20 images of the annotation file. None if no folder
    contains them.
    """
    names = [image.file_name for image in islice(read_coco(str(annotations), root=str(root)).images.values(), 20)]
    split = next((name for name in _SPLITS if name in annotations.stem.lower()), '')
    candidates = [split, *(f'{images}/{split}' for images in _IMAGES), f'{split}2017', *_IMAGES, '']
    candidates += sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    for candidate in candidates:
        if names and all((root / candidate / name).is_file() for name in names):
            return candidate + '/' * bool(candidate)
    return None


def _set_image_folder(spec: DatasetSpec) -> str:
    """Writes the folder of the images into a data set. Returns a line for the plan."""
    spec.cfg.data_prefix = dict(img=image_folder(Path(spec.root), Path(spec.annotations)))
    return f'{spec.split}: the images of {spec.annotations} are in {spec.folder("img")}'


def has_maps(root: str) -> bool:
    """True if a folder seems to have label maps."""
    try:
        return find_map_pairs(Path(root)) is not None
    except DataError:
        return False


def _evaluators(cfg: Config, split: str) -> Iterator[dict]:
    yield from (node for node in dicts_in(cfg.get(f'{split}_evaluator')) if 'type' in node)
