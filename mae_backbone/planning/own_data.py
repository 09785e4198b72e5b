"""Finds the task and splits of a data folder, and the settings of its data sets in a config."""
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from mae_backbone.data.files import IMAGE_SUFFIXES, list_images
from mae_backbone.formats import layout_boxes, layout_classes, layout_maps
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.layout_cache import no_training_split
from mae_backbone.formats.messages import does_not_exist, first_few
from mae_backbone.formats.other_layouts import describe_layout
from mae_backbone.formats.unlabeled import UnlabeledImages
from mae_backbone.formats.unread_labels import unread_labels
from mae_backbone.planning.band_files import reader_of

TASKS = ('pretraining', 'detection', 'segmentation', 'classification')
_TRAIN, _VAL = ('train', 'training', 'train2017'), ('val', 'validation', 'valid', 'val2017')
_IMAGES, _LABEL_MAPS = ('images', 'image', 'imgs'), ('annotations', 'labels', 'masks', 'label', 'mask', 'segments')
_EXPECTED = ('expected annotations/instances_{train,val}.json in COCO\'s format with the images in train/ and val/, '
             'Pascal VOC or YOLO (detection), images/{training,validation} and annotations/{training,validation} with '
             'classes.txt (segmentation), {train,val}/CLASS/ (classification), or any folder of images (pretraining)')
_MAX_LISTED = 5000  # largest number of files in which suffixes are counted


class _NoTrainingError(DataError):
    """Data of a task have a validation split, but no images for training."""


@dataclass
class OwnData:
    """A data folder of a user.

    Attributes:
        task: one of `TASKS`.
        root: absolute path of the folder.
        splits: format of each split by its name, 'train' first. Data for pretraining have only 'train'.
        classes: names of the classes in the order of the labels; empty for pretraining.
        notes: messages for the user about how the data are read.
        written: settings for a config by split, for data in a layout that is converted to annotation files in the
            cache. They name the user's folder, not the cache: the converted files are written again on the machine of
            the training.
        group_pattern: regular expression. Images with the same match in their names are put into the same split if a
            validation split is made. '' if not given.
        warnings: messages for the user about labels that are not used.
        reader: config of the reader of images with other channels or bits; None for gray and color images of 8 bits.
    """

    task: str
    root: str
    splits: dict[str, DataFormat]
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    group_pattern: str = ''
    warnings: list[str] = field(default_factory=list)
    reader: dict[str, Any] | None = None

    def dataset(self, split: str) -> dict[str, Any]:
        """Returns the settings of the data set of a split for a config."""
        return self.written.get(split) or self.splits[split].spec.cfg.to_dict()

    def image_paths(self, split: str) -> list[str]:
        """Returns the absolute paths of the images of a split."""
        data_format = self.splits[split]
        if isinstance(data_format, UnlabeledImages):
            return unlabeled_images(data_format.spec.root)
        return [os.path.abspath(path) for path in data_format.images()]


def find_data(root: str | os.PathLike, task: str | None = None, *, group_pattern: str = '') -> OwnData:
    """Finds the task, splits and classes of a data folder.

    Args:
        root: data folder. If it has no labels and contains only a folder, that folder is the data folder.
        task: one of `TASKS`. None tries detection, segmentation, classification and pretraining, in this order, and
            takes the first one that the folder has data for.
        group_pattern: regular expression. Images with the same match in their names are put into the same split. Only
            for data without a validation split.

    Raises:
        DataError: the folder does not exist, or has no data for the task.
        ValueError: the task is unknown.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f'task {task!r}: expected one of {", ".join(TASKS)}')
    folder = Path(os.path.abspath(os.path.expanduser(os.fspath(root))))
    if not folder.is_dir():
        raise DataError(f'{does_not_exist(str(folder))}: pass the folder of the data' if not folder.exists() else
                        f'{folder} is a file, expected the folder of the data: unpack it if it is an archive')
    data = _find_any(folder, group_pattern) if task is None else _find_task(task, folder, group_pattern)
    inner = _only_folder(folder)
    if inner and data is None:
        return find_data(inner, task, group_pattern=group_pattern)
    if inner and data is not None and task is None and data.task == 'pretraining':
        try:
            return find_data(inner, group_pattern=group_pattern)
        except DataError as error:  # labels that cannot be read
            data.warnings.append(str(error))
    if data is not None:
        return _checked(data, task, group_pattern)
    unread = describe_layout(str(folder)) if task == 'detection' else ''
    if unread:
        raise DataError(unread)
    labels = '. '.join(unread_labels(folder)) if task != 'pretraining' else ''
    raise DataError(f'{folder} has no data for {task or "any task"}: {_EXPECTED}' + f'. {labels}' * bool(labels))


def _only_folder(folder: Path) -> Path | None:
    """Returns the only folder in a folder, such as dataset/ of an unpacked archive; None if there are other files."""
    entries = [entry for entry in islice(os.scandir(folder), _MAX_LISTED)
               if not entry.name.lower().startswith(('.', '__macosx', 'readme', 'license'))]
    return Path(entries[0].path) if len(entries) == 1 and entries[0].is_dir() else None


def _find_task(task: str, folder: Path, group_pattern: str) -> OwnData | None:
    """Returns the data of a task; None if the folder has none."""
    data = _FINDERS[task](folder)
    return _find_layout(task, folder, group_pattern) if data is None and task in _LAYOUTS else data


def _find_any(folder: Path, group_pattern: str) -> OwnData | None:
    """Returns the data of the first task that the folder has data for; None if it has none."""
    refused: list[DataError] = []
    for task in _LAYOUTS:
        data = _FINDERS[task](folder)
        try:
            data = data or _find_layout(task, folder, group_pattern)
        except _NoTrainingError:
            raise
        except DataError as error:  # for example labels of another task
            refused.append(error)
        if data is not None:
            return data
    if refused:  # the folder has labels that cannot be read: do not ignore them
        raise refused[0]
    if unread := describe_layout(str(folder)):
        raise DataError(unread)
    data = _find_images(folder)
    if data is not None:
        data.warnings += unread_labels(folder)
    return data


def _checked(data: OwnData, task: str | None, group_pattern: str) -> OwnData:
    """Adds notes about the classes and the reader, and sets the reader.

    Raises:
        DataError: `group_pattern` is given, but the data already have a validation split.
    """
    if group_pattern and not any(line.startswith('split:') for line in data.notes):
        raise DataError('--group-pattern: the data already have a validation split, which the pattern does not change: '
                        'remove the option')
    if task is None and data.task == 'classification' and data.written:
        data.notes.append('the folders are used as classes: pass --task pretraining if they are not classes')
    data.reader = reader_of(data.image_paths('train'))
    if data.reader is not None:
        data.notes.append(f'images: {data.reader["channels"]} channels of {data.reader["dtype"]}, read by '
                          f'{data.reader["type"]}')
        for data_format in data.splits.values():
            data_format.spec.cfg.reader = ConfigDict(data.reader)
            vars(data_format).pop('reading', None)  # a cached property
    return data


def unlabeled_images(root: str | os.PathLike) -> list[str]:
    """Returns the absolute paths of the image files in a folder and its subfolders.

    If there are no image files, returns the paths of NumPy arrays (.npy).
    """
    folder = Path(os.path.abspath(root))
    arrays = sorted(map(str, folder.rglob('*.npy'))) if not _has_images(folder) else []
    return arrays or [os.path.abspath(path) for path in list_images(folder)]


def _has_images(folder: Path) -> bool:
    return any(name.lower().endswith(IMAGE_SUFFIXES) for _, _, names in os.walk(folder) for name in names)


def _format(cls: type[DataFormat], split: str, /, **options: Any) -> DataFormat:
    return cls(DatasetSpec(split, ConfigDict(options), None))


# ---- COCO

def _find_coco(folder: Path) -> OwnData | None:
    """Finds annotation files that name images by paths in a folder. Other files are read by `_find_layout`."""
    files = sorted(path for path in folder.glob('annotations/*.json') if not path.name.startswith('.'))
    chosen = {split: _annotation_file(files, names) for split, names in (('train', _TRAIN), ('val', _VAL))}
    if None in chosen.values():
        return None
    splits: dict[str, DataFormat] = {}
    for split, path in chosen.items():
        assert path is not None
        image_folder = _image_folder(folder, path)
        if image_folder is None:
            return None
        options: dict[str, Any] = dict(
            type='CocoDataset', data_root=str(folder), ann_file=str(path.relative_to(folder)),
            data_prefix=dict(img=image_folder))
        splits[split] = _format(CocoFormat, split, **options)
    return _with_classes('detection', folder, splits, warnings=_unread_files(files, chosen))


def _find_layout(task: str, folder: Path, group_pattern: str) -> OwnData | None:
    """Reads data in the layout of another program, or without a validation split.

    The annotations are converted to files in the cache. Returns None if the folder has no data for the task.
    """
    kind, settings = _LAYOUTS[task]
    cfg = Config({f'{split}_dataloader': dict(dataset=dict(settings(split), data_root=str(folder)))
                  for split in ('train', 'val')})
    written = {split: cfg[f'{split}_dataloader'].dataset.to_dict() for split in ('train', 'val')}
    specs = [DatasetSpec(split, cfg[f'{split}_dataloader'].dataset, None) for split in ('train', 'val')]
    lines = kind.use(cfg, str(folder), specs, group_pattern)
    if not lines:
        return None
    if specs[0].annotations and specs[0].annotations == specs[1].annotations:
        raise _NoTrainingError(no_training_split(str(folder)))
    splits: dict[str, DataFormat] = {}
    for spec in specs:
        # The data set of listed label maps is registered by now.
        cls = DATASETS.get(spec.type_name) if spec.type_name == 'mae_backbone.ListedSegDataset' else None
        splits[spec.split] = kind.FORMAT(DatasetSpec(spec.split, spec.cfg, cls))
    return _with_classes(task, folder, splits, notes=lines, written=written, group_pattern=group_pattern)


def _coco_settings(split: str) -> dict[str, Any]:
    return dict(type='CocoDataset', ann_file=f'annotations/instances_{split}.json', data_prefix=dict(img=f'{split}/'))


def _map_settings(split: str) -> dict[str, Any]:
    name = {'train': 'training', 'val': 'validation'}[split]
    return dict(type='BaseSegDataset', img_suffix='.jpg', seg_map_suffix='.png', **_map_options(),
                data_prefix=dict(img_path=f'images/{name}', seg_map_path=f'annotations/{name}'))


def _map_options() -> dict[str, Any]:
    # The colors of label maps in colors are set in the pipeline (`LabelMaps.set_classes`).
    return dict(reduce_zero_label=False, ignore_index=255, pipeline=[dict(type='LoadAnnotations')])


def _class_settings(split: str) -> dict[str, Any]:
    return dict(type='mae_backbone.ClassFolder', split=split)


# For each task: module that reads layouts of other programs, and a function that returns the settings of a split in a
# config. `_find_layout` passes these settings to the module, which replaces their paths.
_LAYOUTS: dict[str, tuple[Any, Callable[[str], dict[str, Any]]]] = {
    'detection': (layout_boxes, _coco_settings), 'segmentation': (layout_maps, _map_settings),
    'classification': (layout_classes, _class_settings)}


def _with_classes(task: str, folder: Path, splits: dict[str, DataFormat], **options: Any) -> OwnData:
    """Returns the data set, with the classes of the training split set in all splits."""
    classes = splits['train'].classes().names
    for data_format in splits.values():
        data_format.set_classes(classes)
    return OwnData(task, str(folder), splits, classes, **options)


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


def _image_folder(folder: Path, annotations: Path) -> str | None:
    """Returns the folder of the images of an annotation file, relative to the root, such as 'images/train/'.

    It is the first of the usual folders that contains the first 20 images of the annotation file. None if no folder
    contains them.
    """
    names = [image.file_name for image in islice(read_coco(str(annotations), root=str(folder)).images.values(), 20)]
    split = next((name for name in (*_TRAIN, *_VAL) if name in annotations.stem.lower()), '')
    candidates = [split, *(f'{images}/{split}' for images in _IMAGES), f'{split}2017', *_IMAGES, '']
    candidates += sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    for candidate in candidates:
        if names and all((folder / candidate / name).is_file() for name in names):
            return candidate + '/' * bool(candidate)
    return None


# ---- label maps

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
    """Returns the data of label maps with labels as numbers; None for maps of 0 and 255, which a layout has."""
    splits: dict[str, DataFormat] = {}
    for split, name in (('train', train), ('val', val)):
        splits[split] = _format(
            LabelMaps, split, type='BaseSegDataset', data_root=str(folder),
            data_prefix=dict(img_path=f'{images}/{name}', seg_map_path=f'{maps}/{name}'),
            img_suffix=_suffix(folder / images / name), seg_map_suffix='.png', **_map_options())
    if layout_maps.has_binary_maps(splits['train'].spec):
        return None
    if not splits['train'].classes().names:
        raise DataError(f'{folder}/classes.txt does not exist: write the names of the classes into it, one per line, '
                        'the first for label 0')
    return _with_classes('segmentation', folder, splits)


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
    if not _has_images(folder / train):  # the reader sets the suffix of the images
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
        _has_images(inner) or next(_arrays(inner), None) is not None for inner in folders[:3])


def _find_images(folder: Path) -> OwnData | None:
    if not _has_images(folder) and next(_arrays(folder), None) is None:
        return None
    data = _format(UnlabeledImages, 'train', type='mae_backbone.UnlabeledImages', data_root=str(folder))
    return OwnData('pretraining', str(folder), {'train': data})


def _arrays(folder: Path) -> Iterator[Path]:
    return folder.rglob('*.npy')


# Function that reads the layout of the base configs, by task. Returns None if a folder has another layout.
_FINDERS: dict[str, Callable[[Path], OwnData | None]] = {
    'detection': _find_coco, 'segmentation': _find_label_maps, 'classification': _find_class_folders,
    'pretraining': _find_images}
