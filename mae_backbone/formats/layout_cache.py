"""Data sets of a config whose folder has another layout: read, written as COCO files into the cache, and used."""
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mae_backbone.data.index import cache_folder
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.dataset_spec import SPLITS, DataError, DatasetSpec, dataset_specs, dicts_in
from mae_backbone.formats.layouts.labeled_set import LabeledSet
from mae_backbone.formats.layouts.registry import find_layout
from mae_backbone.formats.layouts.splits import make_validation
from mae_backbone.utils.atomic_write import write_text

_FOLDER = 'layouts'
_SPLIT_FILE = 'split.json'
# Files that this module wrote, here or where a checkpoint was trained.
_WRITTEN = re.compile(rf'(?:^|[/\\]){_FOLDER}[/\\][0-9a-f]{{16}}[/\\]')


class CachedSet(NamedTuple):
    """Files of a data set in the cache."""

    folder: Path
    splits: dict[str, str]  # annotation file of each split
    lines: list[str]        # for the plan


def is_written(path: str) -> bool:
    """Whether a path of a config names a file that this module wrote."""
    return bool(_WRITTEN.search(path))


def read_layouts(cfg: Config) -> list[str]:
    """Makes CocoDataset read folders of other layouts, if a config's own annotation files are missing there.

    Sets `ann_file` and `data_prefix` of the data sets, and `ann_file` of the evaluators of their splits. The split
    'test' of a folder is tested if it has labels, otherwise 'val'.

    Args:
        cfg: config of MMEngine's Runner, changed in place. Its key `group_pattern` groups images if a validation split
            has to be made.

    Returns:
        Lines for the plan.

    Raises:
        DataError: the labels cannot be read.
    """
    lines, pattern = [], cfg.get('group_pattern') or ''
    for root, specs in _specs_by_root(cfg).items():
        if not _is_needed(specs):
            continue
        layout = find_layout(root)
        if layout is None:
            continue
        cached = cache(layout.read(Path(root)), pattern=pattern)
        lines += cached.lines
        for spec in specs:
            file = cached.splits.get(spec.split, cached.splits['val'])
            if spec.split == 'test' and 'test' in cached.splits:
                lines.append(f'test: the split of the data named test, {file}')
            _set_evaluators(cfg, spec, file)
            spec.cfg.ann_file = file
            spec.cfg.data_prefix = dict(img='')
    # Of a checkpoint that is tested, the pattern is the one of its training.
    if pattern and cfg.get('train_dataloader') and not any(line.startswith('split:') for line in lines):
        raise DataError('--group-pattern: the data have a validation split already, which a pattern does not change: '
                        'leave it out')
    return list(dict.fromkeys(lines))


def cache(labeled: LabeledSet, *, pattern: str = '') -> CachedSet:
    """Writes a set as COCO files into the cache, after making a validation split if it has none.

    The files are named by their content, so that the same data give the same files.
    """
    made = make_validation(labeled, pattern=pattern)
    texts = {split: json.dumps(labeled.content(split), ensure_ascii=False, separators=(',', ':'))
             for split in SPLITS if split in labeled.splits}
    digest = hashlib.sha256('\n'.join(texts.values()).encode('utf-8', 'surrogateescape')).hexdigest()[:16]
    folder = cache_folder() / _FOLDER / digest
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in texts.items():
        if not (path := folder / f'instances_{split}.json').is_file():
            write_text(path, text, errors='surrogateescape')
    lines = labeled.lines()
    if made:
        write_text(folder / _SPLIT_FILE, json.dumps(made.record, indent=1, ensure_ascii=False),
                   errors='surrogateescape')
        lines.append(f'{made.line}; lists in {folder / _SPLIT_FILE}')
    labels = {image.split for image in labeled.images if image.objects}
    return CachedSet(folder, {split: str(folder / f'instances_{split}.json') for split in texts
                              if split != 'test' or 'test' in labels}, lines)


def write_made_split(cfg: Config, work_dir: str | Path) -> list[str]:
    """Copies the lists of a validation split that was made into the folder of a run. Returns lines for the plan."""
    lines = []
    for spec in dataset_specs(cfg, 'train'):
        source = Path(os.path.dirname(spec.annotations), _SPLIT_FILE)
        if is_written(spec.annotations) and source.is_file():
            write_text(Path(work_dir, _SPLIT_FILE), source.read_text(encoding='utf-8', errors='surrogateescape'),
                       errors='surrogateescape')
            lines.append(f'split: lists of the images in {Path(work_dir, _SPLIT_FILE)}')
    return lines


def _specs_by_root(cfg: Config) -> dict[str, list[DatasetSpec]]:
    """Data sets of CocoDataset in local folders, by folder."""
    specs: dict[str, list[DatasetSpec]] = defaultdict(list)
    for split in SPLITS:
        for spec in dataset_specs(cfg, split):
            if CocoFormat.detect(spec) and spec.is_local and os.path.isdir(spec.root):
                specs[spec.root].append(spec)
    return specs


def _is_needed(specs: list[DatasetSpec]) -> bool:
    """Whether the config's own annotation files are not there: those of validation, or of the only splits it has."""
    missing = {spec.split: is_written(spec.annotations) or not os.path.isfile(spec.annotations) for spec in specs}
    return missing.get('val', missing.get('test', missing.get('train', False)))


def _set_evaluators(cfg: Config, spec: DatasetSpec, file: str) -> None:
    for evaluator in _evaluators(cfg, spec.split):
        if evaluator.get('ann_file'):
            evaluator['ann_file'] = file


def _evaluators(cfg: Config, split: str) -> Iterator[dict]:
    yield from (node for node in dicts_in(cfg.get(f'{split}_evaluator')) if 'type' in node)
