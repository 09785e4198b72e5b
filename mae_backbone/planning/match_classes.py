"""Compares the classes of a checkpoint with the classes of the data, and puts them into the same order."""
import hashlib
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mmengine.config import Config

from mae_backbone.checkpoints.published import read_checkpoint
from mae_backbone.data.index import cache_folder
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.coco_json import read_content
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError, dicts_in
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.formats.messages import case_hint
from mae_backbone.formats.registry import formats_in
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.printable import printable


def checkpoint_classes(path: str | Path) -> list[str]:
    """Returns the names of the classes in a checkpoint of `mae-backbone train`; empty if it has none."""
    if Path(path).is_dir():  # weights as Hugging Face and timm write them
        return []
    content = read_checkpoint(path)
    meta = content.get('meta') if isinstance(content, dict) else None
    dataset_meta = meta.get('dataset_meta') if isinstance(meta, dict) else None
    names = dataset_meta.get('classes') if isinstance(dataset_meta, dict) else None
    return list(map(str, names)) if isinstance(names, (list, tuple)) else []


def match_classes(cfg: Config, names: Sequence[str], checkpoint: str | Path, *, with_labels: bool = True,
                  splits: Sequence[str] = ('test',)) -> list[str]:
    """Puts the classes of the data into the order of a checkpoint. Returns lines for the plan.

    Labels are indices. If the data have the same names in another order, predictions are compared with the labels of
    other classes, and the metrics are near 0 without an error.

    Args:
        cfg: config after `adapt_classes`, changed in place.
        names: classes of the checkpoint, in the order of its labels; empty if they are unknown.
        checkpoint: path of the checkpoint, for messages.
        with_labels: False if the labels of the data are not used. The order is then not changed.
        splits: splits of the data that are compared.

    Raises:
        DataError: the data have other classes.
    """
    lines: list[str] = []
    if 'KNN' in str((cfg.get('test_cfg') or {}).get('type')):
        return lines  # k-NN uses only the encoder of the checkpoint, not its classes
    for data_format in formats_in(cfg, splits):
        of_data = data_format.spec.class_names
        if not names or not of_data or of_data == list(names):
            continue
        lists = f'{checkpoint} was trained on {_list(names)}, the {data_format.spec.split} data have {_list(of_data)}'
        if sorted(of_data) != sorted(names):
            missing, unknown = (', '.join(map(printable, sorted(set(a) - set(b))[:8])) or 'none'
                                for a, b in ((names, of_data), (of_data, names)))
            raise DataError(f'{lists} (missing: {missing}; unknown: {unknown}): use data with the classes of the '
                            'checkpoint, or pass the checkpoint that was trained on these data'
                            f'{case_hint(names, of_data)}')
        if not with_labels:
            continue
        _reorder(cfg, data_format, of_data, list(names))
        lines += data_format.set_classes(list(names))
        lines.append(f'classes: the data have the names of {checkpoint} in another order; labels are matched by name')
    return lines


def _list(names: Sequence[str]) -> str:
    return f'{len(names)} classes ({", ".join(map(printable, names[:8]))}{", ..." if len(names) > 8 else ""})'


def _reorder(cfg: Config, data_format: DataFormat, of_data: list[str], names: list[str]) -> None:
    """Changes the settings of a data set, so that its labels are the indices of `names`.

    Args:
        cfg: config, changed in place.
        data_format: data set.
        of_data: names of the classes in the order of the data.
        names: names of the classes in the order of the checkpoint.
    """
    spec = data_format.spec
    if isinstance(data_format, CocoFormat):
        # mmdet and pycocotools number the classes in the order of `categories`, not in the order of the config.
        before, ordered = spec.annotations, _with_ordered_categories(spec.annotations, names)
        for node in (spec.cfg, *dicts_in(cfg.get(f'{spec.split}_evaluator'))):
            if node.get('ann_file') and spec.path(node['ann_file']) == before:
                node['ann_file'] = ordered
    elif isinstance(data_format, LabelMaps) and not spec.default_class_names:
        # mmseg maps labels only for data sets with predefined classes (`METAINFO`).
        import_module('mae_backbone.segmentation')  # registers mae_backbone.LoadAnnotations
        for step in dicts_in(spec.option('pipeline')):
            if str(step.get('type')).endswith('LoadAnnotations'):
                step.update(type='mae_backbone.LoadAnnotations', new_labels=[names.index(name) for name in of_data])


def _with_ordered_categories(path: str, names: list[str]) -> str:
    """Writes a copy of an annotation file whose categories are in the order of `names`; returns its path."""
    content = read_content(path)
    position = {name: index for index, name in enumerate(names)}
    content['categories'] = sorted(content['categories'], key=lambda entry: position.get(entry['name'], len(position)))
    text = json.dumps(content)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    copy = cache_folder() / 'annotations' / f'{digest}_{Path(path).name}'
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_text(copy, text)
    return str(copy)
