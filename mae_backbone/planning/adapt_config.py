"""Adapts a config to a user's data: the folder, the classes, and the fraction of the labels."""
import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mae_backbone.formats.coco_json import without_byte_order_mark
from mae_backbone.formats.dataset_spec import SPLITS, DataError, dicts_in
from mae_backbone.formats.layout_config import read_layouts
from mae_backbone.formats.registry import formats_in
from mae_backbone.utils.printable import printable

# Parts of a model whose `num_classes` is not the number of classes of the data: the proposals of mmdet, the stuff
# classes of HTC, and the ImageNet classes of backbones.
_OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')
# Suffixes of the top-level keys whose strings may be paths of data. Under other keys, a string that starts with the
# data root may have another meaning, such as a checkpoint, or the metric 'coco/bbox_mAP' that selects the best
# checkpoint.
_DATA_KEYS = ('_dataloader', '_evaluator', '_pipeline', '_dataset', '_cfg')


# ---- folders

def replace_data_root(cfg: Config, root: str) -> None:
    """Replaces the data root of a config in place.

    Replaces every `data_root`, and every path in dataloaders and evaluators that starts with an old data root, such as
    `val_evaluator.ann_file` in mmdet's configs. Subfolders of the top-level `data_root` keep their names: a `data_root`
    of data/in1k/train becomes ROOT/train if the top-level one is data/in1k.

    Args:
        cfg: config, changed in place.
        root: folder of the user's data; ~ is the home folder.

    Raises:
        DataError: the config has no data_root.
    """
    root = os.path.expanduser(root)
    roots = [node['data_root'] for node in dicts_in(cfg._cfg_dict) if 'data_root' in node]
    if not roots:
        raise DataError(f'--data-root {root}: the config has no data_root to replace')
    top_level = str(cfg.get('data_root')).rstrip('/')
    old_roots = sorted({str(name or '').rstrip('/') for name in roots} - {''},
                       key=lambda name: (name != top_level, -len(name)))
    for key in cfg:
        cfg[key] = _with_root(cfg[key], old_roots, root.rstrip('/') or root, paths=key.endswith(_DATA_KEYS), key=key)


def _with_root(node: Any, old_roots: list[str], root: str, *, paths: bool, key: str = '') -> Any:
    """Copies a part of a config, with `root` in place of the first old root that contains a path.

    Args:
        node: part of the config.
        old_roots: folders to replace. The first one that contains a path is used.
        root: new folder.
        paths: True if strings under keys other than `data_root` may be paths of data.
        key: key of `node` in its parent.
    """
    if isinstance(node, dict):
        return type(node)({key: _with_root(value, old_roots, root, paths=paths, key=key)
                           for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_with_root(value, old_roots, root, paths=paths) for value in node)
    if key == 'data_root':
        return _moved_path(str(node or ''), old_roots, root) or root
    # A string without a slash is a name, such as the prefix 'coco' of metrics, even if a folder has the same name.
    if paths and isinstance(node, str) and '/' in node:
        return _moved_path(node, old_roots, root) or node
    return node


def _moved_path(path: str, old_roots: list[str], root: str) -> str | None:
    for old_root in old_roots:
        if path == old_root or path.startswith(old_root + '/'):
            return root + path.removeprefix(old_root)
    return None


# ---- classes

def adapt_classes(cfg: Config, *, complete: bool = False) -> list[str]:
    """Adapts a config to the layout and the classes of the data. Returns lines for the plan.

    Sets the classes of every data set in `cfg`, and every `num_classes` of its model. The names of the classes are
    `categories` in COCO's format (a config may select some of them), `classes.txt` in the data root for label maps, and
    the names of the folders for `mae_backbone.ClassFolder`. The training set takes precedence over the other splits. If
    there are no data on this machine, the config does not change.

    Args:
        cfg: config of MMEngine's Runner, changed in place.
        complete: True to make a missing validation split also if the data have the layout that the config expects.

    Raises:
        DataError: the file with the class names is damaged.
    """
    prepared = read_layouts(cfg, complete=complete)
    formats = [data_format for data_format in formats_in(cfg) if data_format.spec.is_local]
    prepared += [line for data_format in formats for line in data_format.prepare()]
    _prepare_evaluators(cfg)
    for data_format in formats:
        names, origin = data_format.classes()
        if not names:
            continue
        first = ', '.join(map(printable, names[:8])) + ', ...' * (len(names) > 8)
        lines = [f'classes: {len(names)} ({first}), from {origin}']
        if data_format.spec.class_names and data_format.spec.class_names != names:
            lines += _adapt_class_weights(cfg.get('model'), len(names))
        for other in formats:
            if type(other) is type(data_format):
                lines += other.set_classes(names)
        _set_num_classes(cfg.get('model'), len(names))
        return list(dict.fromkeys(prepared + lines))
    return list(dict.fromkeys(prepared))


def take_classes(cfg: Config, names: Sequence[str]) -> None:
    """Sets the classes of a config to the classes of a checkpoint, regardless of the classes of the data.

    Args:
        cfg: config, changed in place.
        names: classes of the checkpoint; if empty, nothing changes.
    """
    if not names:
        return
    for data_format in formats_in(cfg):
        if data_format.spec.class_names != list(names):
            _adapt_class_weights(cfg.get('model'), len(names))
            data_format.set_classes(list(names))
    _set_num_classes(cfg.get('model'), len(names))


def _prepare_evaluators(cfg: Config) -> None:
    """Replaces annotation files of evaluators that start with a byte-order mark by copies without it.

    Adds no line to the plan, because the data sets already report these files.
    """
    for split in SPLITS:
        for evaluator in dicts_in(cfg.get(f'{split}_evaluator')):
            path = evaluator.get('ann_file')
            if isinstance(path, str) and path.endswith('.json'):
                evaluator['ann_file'] = without_byte_order_mark(path)


def _set_num_classes(model: Any, num_classes: int) -> None:
    """Sets every `num_classes` of the heads of a model. The value 0 is kept, because such a model has no head."""
    for part in model if isinstance(model, (list, tuple)) else [model]:
        if not isinstance(part, dict):
            continue
        if part.get('num_classes'):
            part['num_classes'] = num_classes
        for key, value in part.items():
            if key not in _OTHER_CLASSES:
                _set_num_classes(value, num_classes)


def _adapt_class_weights(model: Any, num_classes: int) -> list[str]:
    """Removes class weights of the losses, because they belong to other classes. Returns a line if any are removed.

    If all classes have the same weight, the weights are kept and repeated for the new number of classes, followed by
    additional weights such as the weight of "no object" in mask classification.
    """
    lines = []
    for head in dicts_in(model):
        old_num_classes = head.get('num_classes') or 0
        for loss in dicts_in(list(head.values()) if old_num_classes else None):
            weights = list(loss.get('class_weight') or [])
            if len(set(weights[:old_num_classes])) == 1:
                loss['class_weight'] = weights[:1] * num_classes + weights[old_num_classes:]
            elif weights:
                loss['class_weight'] = None
                lines = ["the config's class weights belong to other classes and are removed: `mae-backbone check` "
                         'computes weights for yours']
    return lines


# ---- labels

def subset_labels(cfg: Config, fraction: float, *, seed: int = 0) -> list[str]:
    """Restricts every training set of a config to a fraction of its labels. Returns lines for the plan.

    The images are put into a random order that depends only on `seed`, and the first ones are kept. A smaller fraction
    is therefore a subset of a larger one. For class folders this is done for each class, and at least one image per
    class is kept.

    Args:
        cfg: config of MMEngine's Runner, after `adapt_classes`.
        fraction: fraction of the labeled images, in (0, 1].
        seed: random seed of the order.

    Raises:
        DataError: the fraction is out of range, or a data set has no labels or an unknown format.
    """
    if not 0 < fraction <= 1:
        raise DataError(f'--labels {fraction:g}: expected a fraction of the labeled images in (0, 1], such as 0.1 for '
                        '10 %')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return [data_format.subset(fraction, seed) for data_format in formats_in(cfg, ['train'])]
