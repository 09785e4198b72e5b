"""Finds data in the layout of the base configs, which are read without a conversion."""
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.formats import layout_maps
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec
from mae_backbone.formats.inner_folder import has_images
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.layout_boxes import image_folder
from mae_backbone.formats.layouts.class_files import has_other_class_file
from mae_backbone.formats.messages import first_few
from mae_backbone.formats.unlabeled import UnlabeledImages
from mae_backbone.planning.own_data import OwnData, array_files, with_classes

_TRAIN, _VAL = ('train', 'training', 'train2017'), ('val', 'validation', 'valid', 'val2017')
_IMAGES, _LABEL_MAPS = ('images', 'image', 'imgs'), ('annotations', 'labels', 'masks', 'label', 'mask', 'segments')
_MAX_LISTED = 5000  # largest number of files in which suffixes are counted


def _format(cls: type[DataFormat], split: str, /, **options: Any) -> DataFormat:
    return cls(DatasetSpec(split, ConfigDict(options), None))


# ---- COCO

def _find_coco(folder: Path) -> OwnData | None:
    """Finds annotation files that name images by paths in a folder. Other files are converted."""
    files = sorted(path for path in folder.glob('annotations/*.json') if not path.name.startswith('.'))
    chosen = {split: _annotation_file(files, names) for split, names in (('train', _TRAIN), ('val', _VAL))}
    if None in chosen.values():
        return None
    splits: dict[str, DataFormat] = {}
    for split, path in chosen.items():
        assert path is not None
        images = image_folder(folder, path)
        if images is None:
            return None
        options: dict[str, Any] = dict(
            type='CocoDataset', data_root=str(folder), ann_file=str(path.relative_to(folder)),
            data_prefix=dict(img=images))
        splits[split] = _format(CocoFormat, split, **options)
    return with_classes('detection', folder, splits, warnings=_unread_files(files, chosen))


def _annotation_file(files: list[Path], names: tuple[str, ...]) -> Path | None:
    """Returns the annotation file that has the name of a split in its own name. Files `instances_*` take precedence."""
    for name in names:
        matches = [path for path in files if _names_split(path, name)]
        if matches:
            return min(matches, key=lambda path: (not _has_instances(path), path.name))
    return None


def _names_split(path: Path, name: str) -> bool:
    return re.search(rf'(^|[^a-z]){name}($|[^a-z])', path.stem.lower()) is not None


def _has_instances(path: Path) -> bool:
    return path.name.startswith('instances')


def _unread_files(files: list[Path], chosen: Mapping[str, Path | None]) -> list[str]:
    """Returns warnings about annotation files that name the same split as a chosen file, such as parts of it."""
    warnings = []
    for split, names in (('train', _TRAIN), ('val', _VAL)):
        path = chosen[split]
        assert path is not None
        others = [other.name for other in files if other != path and _has_instances(other) == _has_instances(path)
                  and any(_names_split(other, name) for name in names)]
        if others:
            warnings.append(f'{split}: of the annotation files, only {path.name} is read, not {first_few(others)}. '
                            'Join the files if they are parts of the split, or move the others to another folder')
    return warnings


# ---- label maps

def map_options() -> dict[str, Any]:
    """Settings of a data set of label maps with labels as numbers."""
    # The colors of label maps in colors are set in the pipeline (`LabelMaps.set_classes`).
    return dict(reduce_zero_label=False, ignore_index=255, pipeline=[dict(type='LoadAnnotations')])


def _find_label_maps(folder: Path) -> OwnData | None:
    for images in _IMAGES:
        for maps in _LABEL_MAPS:
            names = [(_subfolder(folder / images, folder / maps, split)) for split in (_TRAIN, _VAL)]
            if names[0] is not None and names[1] is not None:
                return _label_maps(folder, images, maps, names[0], names[1])
    return None


def _subfolder(images: Path, maps: Path, names: tuple[str, ...]) -> str | None:
    for name in names:
        if (images / name).is_dir() and (maps / name).is_dir() and _suffix(maps / name) == '.png':
            return name
    return None


def _label_maps(folder: Path, images: str, maps: str, train: str, val: str) -> OwnData | None:
    """Returns the data of label maps with labels as numbers, named by classes.txt.

    Returns None for maps of 0 and 255, and for classes in another file, which are converted.
    """
    splits: dict[str, DataFormat] = {}
    for split, name in (('train', train), ('val', val)):
        splits[split] = _format(
            LabelMaps, split, type='BaseSegDataset', data_root=str(folder),
            data_prefix=dict(img_path=f'{images}/{name}', seg_map_path=f'{maps}/{name}'),
            img_suffix=_suffix(folder / images / name), seg_map_suffix='.png', **map_options())
    if layout_maps.has_binary_maps(splits['train'].spec) or has_other_class_file(folder):
        return None
    if not splits['train'].classes().names:
        raise DataError(f'{folder}/classes.txt does not exist: write the names of the classes into it, one per line, '
                        'the first for label 0')
    return with_classes('segmentation', folder, splits)


def _suffix(folder: Path) -> str:
    """Returns the most frequent suffix of the files in a folder and its subfolders; '' if there are no files."""
    names = (name for _, _, names in os.walk(folder) for name in names if not name.startswith('.'))
    counts = Counter(os.path.splitext(name)[1] for name in islice(names, _MAX_LISTED))
    return counts.most_common(1)[0][0] if counts else ''


# ---- classes and unlabeled images

def _find_class_folders(folder: Path) -> OwnData | None:
    train, val = (next((name for name in names if _has_class_folders(folder / name)), None)
                  for names in (_TRAIN, _VAL))
    if train is None or val is None:
        return None
    options: dict[str, Any] = dict(type='mae_backbone.ClassFolder', data_root=str(folder))
    if not has_images(folder / train):  # the reader sets the suffix of the images
        options['reader'] = dict(type='mae_backbone.ArrayReader')
    splits: dict[str, DataFormat] = {
        split: _format(ClassFolders, split, **options, split=name) for split, name in (('train', train), ('val', val))}
    classes = splits['train'].classes().names
    for data_format in splits.values():
        data_format.set_classes(classes)
    return OwnData('classification', str(folder), splits, classes)


def _has_class_folders(folder: Path) -> bool:
    """True if a folder contains no images, but two or more folders with images."""
    if not folder.is_dir():
        return False
    entries = list(islice(os.scandir(folder), _MAX_LISTED))
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    images = any(entry.name.lower().endswith((*IMAGE_SUFFIXES, '.npy')) for entry in entries if entry.is_file())
    return len(folders) > 1 and not images and any(
        has_images(inner) or next(array_files(inner), None) is not None for inner in folders[:3])


def _find_images(folder: Path) -> OwnData | None:
    if not has_images(folder) and next(array_files(folder), None) is None:
        return None
    data = _format(UnlabeledImages, 'train', type='mae_backbone.UnlabeledImages', data_root=str(folder))
    return OwnData('pretraining', str(folder), {'train': data})


# Function that reads the layout of the base configs, by task. Returns None if a folder has another layout.
FINDERS: dict[str, Callable[[Path], OwnData | None]] = {
    'detection': _find_coco, 'segmentation': _find_label_maps, 'classification': _find_class_folders,
    'pretraining': _find_images}
