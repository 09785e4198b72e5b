"""Adapts data sets of a config whose folder has another layout than the config expects."""
import os
from collections import defaultdict
from pathlib import Path

from mmengine.config import Config

from mae_backbone.formats import layout_boxes, layout_classes, layout_maps
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec, dataset_specs
from mae_backbone.formats.layout_cache import SPLIT_FILE, split_record
from mae_backbone.utils.atomic_write import write_text

_KINDS = (layout_boxes, layout_maps, layout_classes)


def read_layouts(cfg: Config, *, complete: bool = False) -> list[str]:
    """Adapts the data sets of a config to folders in layouts of other programs, if the expected files do not exist.

    If such a folder has no validation split, one is made.

    Args:
        cfg: config of MMEngine's Runner, changed in place. Its key `group_pattern` is a regular expression that groups
            images if a validation split is made.
        complete: True to do this also for folders whose training data have the expected layout, if they have no
            validation data, or if their images have several suffixes.

    Returns:
        Lines for the plan.

    Raises:
        DataError: the labels cannot be read, or `group_pattern` has no effect.
    """
    lines, pattern = [], cfg.get('group_pattern') or ''
    for kind in _KINDS:
        for root, specs in _specs_by_root(cfg, kind.FORMAT).items():
            missing = {split: any(kind.is_missing(spec) for spec in specs if spec.split == split)
                       for split in {spec.split for spec in specs}}
            # A folder with validation data but without training data can be tested.
            needed = missing.get('val', missing.get('test', missing.get('train')))
            if (needed and (complete or all(missing.values()))) or (complete and any(map(kind.is_odd, specs))):
                lines += kind.use(cfg, root, specs, pattern)
    # The pattern in the config of a checkpoint is from its training. In a test it may have no effect.
    if pattern and cfg.get('train_dataloader') and not any(line.startswith('split:') for line in lines):
        raise DataError('--group-pattern: the data already have a validation split, which the pattern does not change: '
                        'remove the option')
    return list(dict.fromkeys(lines))


def write_made_split(cfg: Config, work_dir: str | Path) -> list[str]:
    """Copies the lists of images of a new validation split into the folder of a run. Returns lines for the plan."""
    records = [split_record(spec.annotations or os.path.join(spec.root, SPLIT_FILE))
               for spec in dataset_specs(cfg, 'train')]
    for record in filter(None, records):
        write_text(Path(work_dir, SPLIT_FILE), record, errors='surrogateescape')
        return [f'split: lists of the images in {Path(work_dir, SPLIT_FILE)}']
    return []


def _specs_by_root(cfg: Config, data_format: type[DataFormat]) -> dict[str, list[DatasetSpec]]:
    """Returns the data sets of a format that are in local folders, by folder."""
    specs: dict[str, list[DatasetSpec]] = defaultdict(list)
    for split in SPLITS:
        for spec in dataset_specs(cfg, split):
            if data_format.detect(spec) and spec.is_local and os.path.isdir(spec.root):
                specs[spec.root].append(spec)
    return specs
