"""Named filters for messages of OpenMMLab and pycocotools that do not help users, each with its reason."""
import builtins
import logging
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

from mae_backbone.compat.import_hook import Execute, on_import

# Starts of messages -> why they are dropped.
DROPPED = {
    'Could not import OneDL': 'an optional data set format of the maintainers of onedl-mmdetection',
    '"FileClient" will be deprecated': "MMEngine's own hooks use it",
    '"HardDiskBackend" is the alias': "MMEngine's own hooks use it",
    'Exp name: ': 'the work directory, repeated after each epoch',
    'The prefix is not set in metric class': 'names of metrics are as they are printed',
}
# The same for a part of a message.
DROPPED_PARTS = {
    'has no metainfo': 'unlabeled images have none',
}
# Starts of UserWarnings -> why they are dropped.
DROPPED_WARNINGS = {
    'The draw is False': 'the visualization hook of mmseg draws nothing unless asked',
    'Default ``avg_non_ignore`` is False': 'the recipes keep the default of mmseg',
}
# Printed by pycocotools for each of several copies of an annotation file.
COCO_PROGRESS = ('loading annotations into memory', 'Done (t=', 'creating index', 'index created',
                 'Loading and preparing', 'DONE (t=', 'Converting ndarray', 'Running per image evaluation',
                 'Evaluate annotation type', 'Accumulating evaluation results')


def is_dropped(message: object) -> bool:
    """True for the messages above."""
    text = str(message)
    return text.startswith(tuple(DROPPED)) or any(part in text for part in DROPPED_PARTS)


def keep_record(record: logging.LogRecord) -> bool:
    """A filter for a logger: False for messages that are dropped."""
    return not is_dropped(record.msg)


def quiet_imports() -> None:
    """Drops the messages above while mmdet and mmseg are imported, also in a Python program that uses this package."""
    for name in ('mmdet.datasets', 'mmseg.datasets'):
        if name not in sys.modules:
            on_import(name, _execute_quietly)


def _execute_quietly(module: ModuleType, execute: Execute) -> None:
    mmengine_logging = import_module('mmengine.logging')
    before = mmengine_logging.print_log
    _filter_print_log(mmengine_logging)
    try:
        execute(module)
    finally:
        vars(mmengine_logging)['print_log'] = before


def install() -> None:
    """Installs the filters that do not belong to a logger, now or when their module is imported."""
    for name, change in _CHANGES.items():
        if name in sys.modules:
            change(sys.modules[name])
        else:
            on_import(name, _execute_and_change)
    for message in DROPPED_WARNINGS:
        warnings.filterwarnings('ignore', message, UserWarning)


def _execute_and_change(module: ModuleType, execute: Execute) -> None:
    execute(module)
    _CHANGES[module.__name__](module)


def _filter_print_log(logging_module: ModuleType) -> None:
    # mmdet and mmseg take this function from mmengine.logging when they are imported.
    if not hasattr(logging_module.print_log, 'filtered'):
        vars(logging_module)['print_log'] = _filtered(logging_module.print_log)


def _drop_progress(coco_module: ModuleType) -> None:
    vars(coco_module)['print'] = _print_results


def _drop_init_info(module: ModuleType) -> None:
    # Writes two lines for each tensor of a model into the log file, most of them "the value is the same".
    module.BaseModule._dump_init_info = lambda self: None


_CHANGES: dict[str, Callable[[ModuleType], None]] = {
    'mmengine.logging': _filter_print_log, 'mmengine.model.base_module': _drop_init_info,
    'pycocotools.coco': _drop_progress, 'pycocotools.cocoeval': _drop_progress}


def _filtered(print_log: Callable[..., None]) -> Callable[..., None]:
    def filtered(message: object, *args: object, **options: object) -> None:
        if not is_dropped(message):
            print_log(message, *args, **options)
    vars(filtered)['filtered'] = True
    return filtered


def _print_results(*values: object, **options: object) -> None:
    """`print` for pycocotools: drops progress, keeps tables and warnings."""
    if not (values and str(values[0]).startswith(COCO_PROGRESS)):
        builtins.print(*values, **options)  # type: ignore[call-overload]  # passed on
