"""Checks the data of a config before a model is built: refuses data that cannot be used, and counts the others."""
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec, dataset_specs, dicts_in
from mae_backbone.formats.layout_cache import is_written, no_training_split
from mae_backbone.formats.registry import format_of, formats_in


def check_data(cfg: Config, *, splits: Sequence[str] = SPLITS) -> list[str]:
    """Checks the data that the dataloaders of a config read. Returns lines for the plan.

    Call `adapt_classes` first, because the data are compared with the classes in the config. Data sets in unknown
    formats, and data sets that are not on local disks, are not checked.

    Args:
        cfg: config of MMEngine's Runner.
        splits: splits to check, some of 'train', 'val', 'test'.

    Raises:
        DataError: the data cannot be used for training or testing.
        ValueError, OSError: a folder for pretraining has no images, or cannot be read.
    """
    lines: list[str] = []
    checked: dict[tuple, str] = {}
    for data_format in formats_in(cfg, splits):
        spec = data_format.spec
        needs = dict(masks=_needs_masks(cfg, spec), labels=_needs_labels(cfg, spec.split))
        key = (spec.cls, spec.root, spec.annotations, str(spec.option('data_prefix')), spec.option('split'),
               *needs.values())
        if key not in checked:
            lines += (data_format if spec.is_local else DataFormat(spec)).check(**needs)
        elif checked[key] != spec.split:
            if checked[key] == 'train' and is_written(spec.annotations):
                raise DataError(no_training_split(spec.root))
            lines.append(f'{spec.split}: the same data as {checked[key]}')
        checked.setdefault(key, spec.split)
    for split in splits:
        _check_evaluators(cfg, split)
    return lines


def _needs_masks(cfg: Config, spec: DatasetSpec) -> bool:
    """True if the pipeline or the evaluation of a data set needs segmentations."""
    loads_masks = any(step.get('with_mask') for step in dicts_in(spec.cfg.get('pipeline')))
    return loads_masks or any('segm' in evaluator.get('metric', ()) for evaluator in _evaluators(cfg, spec.split))


def _needs_labels(cfg: Config, split: str) -> bool:
    """True if a split needs labels. False if its predictions are only written to a file (`format_only`)."""
    evaluators = _evaluators(cfg, split)
    return not (evaluators and all(evaluator.get('format_only') for evaluator in evaluators))


def _evaluators(cfg: Config, split: str) -> list[ConfigDict]:
    evaluators = cfg.get(f'{split}_evaluator') or []
    return [evaluators] if isinstance(evaluators, dict) else list(evaluators)


def _check_evaluators(cfg: Config, split: str) -> None:
    """Compares the data of the evaluators with the predicted data set, if it is the only one of its split."""
    specs = dataset_specs(cfg, split)
    if len(specs) == 1 and specs[0].is_local:
        for evaluator in _evaluators(cfg, split):
            format_of(specs[0]).check_evaluator(evaluator, f'{split}_evaluator')
