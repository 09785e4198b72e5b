"""Finds the task and the splits of a data folder."""
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from mae_backbone.formats import layout_boxes, layout_classes, layout_maps
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec
from mae_backbone.formats.inner_folder import inner_folder
from mae_backbone.formats.layout_cache import no_training_split
from mae_backbone.formats.messages import does_not_exist
from mae_backbone.formats.other_layouts import describe_layout
from mae_backbone.formats.unread_labels import unread_labels, unread_tables
from mae_backbone.planning.band_files import reader_of
from mae_backbone.planning.base_layouts import FINDERS, map_options
from mae_backbone.planning.own_data import OwnData, with_classes

TASKS = ('pretraining', 'detection', 'segmentation', 'classification')
_EXPECTED = ('expected annotations/instances_{train,val}.json in COCO\'s format with the images in train/ and val/, '
             'Pascal VOC or YOLO (detection), images/{training,validation} and annotations/{training,validation} with '
             'classes.txt (segmentation), {train,val}/CLASS/ (classification), or any folder of images (pretraining)')


class _NoTrainingError(DataError):
    """Data of a task have a validation split, but no images for training."""


def find_data(root: str | os.PathLike, task: str | None = None, *, group_pattern: str = '') -> OwnData:
    """Finds the task, splits and classes of a data folder.

    Args:
        root: data folder. If it has no labels that are known, the only folder in it with labels is read, or else the
            only one with images.
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
    inner = inner_folder(folder) if data is None or (data.task == 'pretraining' and task is None) else None
    if inner and data is None:
        try:
            return find_data(inner.path, task, group_pattern=group_pattern)
        except DataError:
            if task == 'pretraining' or not unread_labels(folder):
                raise
    if inner and data is not None:
        try:
            labeled = find_data(inner.path, group_pattern=group_pattern)
            if labeled.task != 'pretraining':
                return labeled
            data.warnings += [line for line in labeled.warnings
                              if not {line, f'{inner.path.name}/{line}'} & {*data.warnings}]
        except DataError as error:  # labels that cannot be read
            data.warnings.append(str(error))
    if data is not None:
        return _checked(data, task, group_pattern)
    unread = describe_layout(str(folder)) if task == 'detection' else ''
    if unread:
        raise DataError(unread)
    labels = '. '.join(unread_labels(folder)) if task != 'pretraining' else ''
    raise DataError(f'{folder} has no data for {task or "any task"}: {_EXPECTED}' + f'. {labels}' * bool(labels))


def _find_task(task: str, folder: Path, group_pattern: str) -> OwnData | None:
    """Returns the data of a task; None if the folder has none."""
    data = FINDERS[task](folder)
    return _find_layout(task, folder, group_pattern) if data is None and task in _LAYOUTS else data


def _find_any(folder: Path, group_pattern: str) -> OwnData | None:
    """Returns the data of the first task that the folder has data for; None if it has none."""
    refused: list[DataError] = []
    for task in _LAYOUTS:
        data = FINDERS[task](folder)
        try:
            data = data or _find_layout(task, folder, group_pattern)
        except _NoTrainingError:
            raise
        except DataError as error:  # for example labels of another task
            refused.append(error)
        if data is not None and not (refused and task == 'classification'):
            return data
    if refused:  # the folder has labels that cannot be read: do not ignore them
        raise refused[0]
    if unread := describe_layout(str(folder)):
        raise DataError(unread)
    data = FINDERS['pretraining'](folder)
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
    if task is None and any(line.startswith('layout: class folders') for line in data.notes):
        data.notes.append('the folders are used as classes: pass --task pretraining if they are not classes')
        data.warnings += unread_tables(Path(data.root))
    data.reader = reader_of(data.image_paths('train'))
    if data.reader is not None:
        data.notes.append(f'images: {data.reader["channels"]} channels of {data.reader["dtype"]}, read by '
                          f'{data.reader["type"]}')
        for data_format in data.splits.values():
            data_format.spec.cfg.reader = ConfigDict(data.reader)
            vars(data_format).pop('reading', None)  # a cached property
    return data


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
    return with_classes(task, folder, splits, notes=lines, written=written, group_pattern=group_pattern)


def _coco_settings(split: str) -> dict[str, Any]:
    return dict(type='CocoDataset', ann_file=f'annotations/instances_{split}.json', data_prefix=dict(img=f'{split}/'))


def _map_settings(split: str) -> dict[str, Any]:
    name = {'train': 'training', 'val': 'validation'}[split]
    return dict(type='BaseSegDataset', img_suffix='.jpg', seg_map_suffix='.png', **map_options(),
                data_prefix=dict(img_path=f'images/{name}', seg_map_path=f'annotations/{name}'))


def _class_settings(split: str) -> dict[str, Any]:
    return dict(type='mae_backbone.ClassFolder', split=split)


# For each task: module that reads layouts of other programs, and a function that returns the settings of a split in a
# config. `_find_layout` passes these settings to the module, which replaces their paths.
_LAYOUTS: dict[str, tuple[Any, Callable[[str], dict[str, Any]]]] = {
    'detection': (layout_boxes, _coco_settings), 'segmentation': (layout_maps, _map_settings),
    'classification': (layout_classes, _class_settings)}
