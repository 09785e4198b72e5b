"""Description of a run that each of its checkpoints holds as `meta.mae_backbone`."""
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

import mae_backbone
from mae_backbone.utils.palette import palette

# Version of this description. A reader ignores keys that it does not know.
FORMAT = 1
_PACKAGES = ('torch', 'torchvision', 'timm', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmseg')


def description(model: nn.Module, dataset: object, scalars: Mapping[str, Any],
                validated: int | None = None) -> dict[str, Any]:
    """Describes a model in training: plain dicts, lists, strings and numbers.

    Args:
        model: without the wrapper of a distributed run.
        dataset: that it is trained on.
        scalars: log histories by name, MMEngine's `MessageHub.log_scalars`.
        validated: iterations that were done at the last validation. A checkpoint is saved before the validation of its
            iteration, unless it is the best one so far.

    Returns:
        task; classes with id, name and color; num_images of the training set, if it has a length; pixels (mean and std
        of each channel); image_size in pixels; versions; commit of the code, if it is known; command; results, the
        metrics of the last validation; and results_iter.
    """
    return {'format': FORMAT, 'task': task_name(model) or 'features', 'classes': classes_of(dataset),
            'num_images': num_images_of(dataset), 'pixels': _pixels(model), 'image_size': _image_size(model),
            'versions': versions(), 'commit': commit(), 'command': command(), 'results': results(scalars),
            'results_iter': validated}


def task_name(model: nn.Module) -> str | None:
    """Task of a model, by its modules; None for a model that only computes features.

    'detection', 'segmentation', 'classification' or 'pretraining'.
    """
    if hasattr(model, 'mae'):
        return 'pretraining'
    if hasattr(model, 'decode_head'):
        return 'segmentation'
    if getattr(model, 'with_bbox', False) or hasattr(model, 'bbox_head') or hasattr(model, 'panoptic_head'):
        return 'detection'
    return 'classification' if getattr(model, 'num_classes', 0) else None


def num_images_of(dataset: object) -> int | None:
    """Number of images of a data set; None if it has no length."""
    return len(dataset) if isinstance(dataset, Sized) else None


def classes_of(dataset: object) -> list[dict[str, Any]]:
    """Classes of a data set in the order of the labels: id in the annotations, name, and color.

    Ids are from the annotation file of a COCO data set, and otherwise the labels.
    """
    meta = getattr(dataset, 'metainfo', None) or {}
    names = [str(name) for name in meta.get('classes') or ()]
    while hasattr(dataset, 'dataset'):  # wrappers such as RepeatDataset
        dataset = dataset.dataset
    ids = list(getattr(dataset, 'cat_ids', ()) or ())
    ids = ids if len(ids) == len(names) else list(range(len(names)))
    colors = meta.get('palette')
    if not isinstance(colors, (list, tuple)) or len(colors) != len(names):
        colors = palette(len(names))
    return [{'id': number if isinstance(number, str) else int(number), 'name': name, 'color': [int(c) for c in color]}
            for number, name, color in zip(ids, names, colors, strict=True)]


def _pixels(model: nn.Module) -> dict[str, list[float]]:
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    if not getattr(preprocessor, '_enable_normalize', hasattr(preprocessor, 'mean')):
        return {}
    return {name: [round(float(value), 4) for value in getattr(preprocessor, name).flatten()]
            for name in ('mean', 'std')}


def _image_size(model: nn.Module) -> list[int]:
    """(H, W) in pixels of the stored positions of the encoder; [] if it has none."""
    encoder: Any = getattr(getattr(model, 'mae', None), 'encoder', None) or getattr(model, 'backbone', None)
    grid, patch_size = getattr(encoder, 'grid', None), getattr(encoder, 'patch_size', None)
    return [side * patch_size for side in grid] if isinstance(grid, tuple) and isinstance(patch_size, int) else []


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the packages that are in use."""
    found = {'python': platform.python_version(), 'mae_backbone': mae_backbone.__version__}
    return found | {name: str(sys.modules[name].__version__) for name in _PACKAGES
                    if hasattr(sys.modules.get(name), '__version__')}


@lru_cache
def commit(root: Path | None = None) -> str:
    """Commit of a clone, with '-dirty' after changes; '' if the folder is none. None: the clone of this package."""
    root = Path(mae_backbone.__file__).resolve().parents[1] if root is None else root
    if not (root / '.git').exists():
        return ''
    try:
        done = subprocess.run(['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'], cwd=root,
                              capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ''
    return done.stdout.strip()


def command() -> str:
    """The command line of this process, with the name of the program instead of its path."""
    program, *options = sys.argv or ['']
    return shlex.join([Path(program).name, *options])


def results(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of the last validation, by their names without 'val/', and the training loss."""
    found = {name.removeprefix('val/'): float(history.current()) for name, history in scalars.items()
             if name.startswith('val/') and not name.endswith('/time') and len(history.data[0])}
    found = {name: value for name, value in found.items() if name not in ('time', 'data_time')}
    loss = scalars.get('train/loss')
    return found | ({'train_loss': float(loss.current())} if loss is not None and len(loss.data[0]) else {})
