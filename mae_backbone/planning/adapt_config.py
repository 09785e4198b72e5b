"""Points a config to the user's own data: their folder, and their classes."""
import colorsys
import os
from importlib import import_module

from mmengine.config import Config, ConfigDict

from mae_backbone.formats.classes_txt import read_classes
from mae_backbone.formats.coco import read_coco
from mae_backbone.formats.dataset_spec import SPLITS, DataError, Source, class_folders, dicts_in, sources

# Parts of a model that count something else than the classes of the data: mmdet's proposals, HTC's stuff, ImageNet.
_OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')
# Ends of the top-level keys under which a config says what to read. In others a string that begins with the data root
# may be something else: a checkpoint, or the metric 'coco/bbox_mAP' to choose the best one by.
_READ_DATA = ('_dataloader', '_evaluator', '_pipeline', '_dataset', '_cfg')


# ---- folders

def use_data_root(cfg: Config, root: str) -> None:
    """Puts `root` in the place of the config's data root, in `cfg` itself.

    That is every `data_root` in it, and every path that begins with one of them in what dataloaders and evaluators
    read, such as `val_evaluator.ann_file` of mmdet's configs. Below the top-level `data_root`, folders keep their
    names: a `data_root` of data/in1k/train becomes ROOT/train where the top-level one is data/in1k.

    Raises:
        DataError: the config has no data_root.
    """
    root = os.path.expanduser(root)
    roots = [node['data_root'] for node in dicts_in(cfg._cfg_dict) if 'data_root' in node]
    if not roots:
        raise DataError(f'--data-root {root}: the config has no data_root that it could replace')
    above = str(cfg.get('data_root')).rstrip('/')
    old = {str(name or '').rstrip('/') for name in roots} - {''}
    old = sorted(old, key=lambda name: (name != above, -len(name)))
    for key in cfg:
        cfg[key] = _moved(cfg[key], old, root.rstrip('/') or root, paths=key.endswith(_READ_DATA), key=key)


def _moved(part: object, old: list[str], root: str, *, paths: bool, key: str = '') -> object:
    """A copy of a part of a config, with `root` in the place of the first of the `old` folders that holds it.

    Args:
        paths: whether other strings than those under the key `data_root` can be paths of data.
        key: what the part stands under.
    """
    if isinstance(part, dict):
        return type(part)({key: _moved(value, old, root, paths=paths, key=key) for key, value in part.items()})
    if isinstance(part, (list, tuple)):
        return type(part)(_moved(value, old, root, paths=paths) for value in part)
    if key == 'data_root':
        return _below(part or '', old, root) or root
    # A word without a slash is a name, such as the prefix 'coco' of metrics, also where a folder is called so.
    return _below(part, old, root) or part if paths and isinstance(part, str) and '/' in part else part


def _below(path: str, old: list[str], root: str) -> str | None:
    for name in old:
        if path == name or path.startswith(name + '/'):
            return root + path.removeprefix(name)
    return None


# ---- classes

def fit_classes(cfg: Config) -> list[str]:
    """Takes the classes from the data where their format names them; returns lines to print.

    Sets the classes of every data set of that kind in `cfg`, and every `num_classes` of its model. What names them:
    `categories` in COCO's format, where a config may choose some of them; `classes.txt` in the data root for label
    maps; the folders of `mae_backbone.ClassFolder`. The training set comes first; where it is absent, the other
    splits; where all are, the config stays as it is.

    Raises:
        DataError: the file with the names of the classes is damaged.
    """
    found = [source for split in SPLITS for source in sources(cfg, split) if source.kind in _NAMES and source.is_local]
    for source in found:
        classes, origin = _NAMES[source.kind](source)
        if not classes:
            continue
        lines = [_line(classes, origin)]
        if source.classes and source.classes != classes:
            lines += _fit_class_weights(cfg.get('model'), len(classes))
        for other in found:
            if other.kind == source.kind:
                lines += _set_classes(other, classes)
                lines += _use_colors(other)
        _set_num_classes(cfg.get('model'), len(classes))
        return list(dict.fromkeys(lines))
    return []


def _line(classes: list[str], origin: str) -> str:
    more = ', ...' if len(classes) > 8 else ''
    return f'classes: {len(classes)} ({", ".join(classes[:8])}{more}), from {origin}'


def _coco_classes(source: Source) -> tuple[list[str], str]:
    if not os.path.isfile(source.annotations):
        return [], ''
    names, chosen = list(read_coco(source.annotations).categories.values()), set(source.config_classes)
    if chosen and chosen < set(names):
        return [name for name in names if name in chosen], f'the config; {len(names)} in {source.annotations}'
    return names, source.annotations


def _label_map_classes(source: Source) -> tuple[list[str], str]:
    path = _class_file(source)
    return (read_classes(path).names, path) if os.path.isfile(path) else (source.classes, 'the config')


def _class_file(source: Source) -> str:
    return os.path.join(source.root, 'classes.txt')


def _folder_classes(source: Source) -> tuple[list[str], str]:
    names = class_folders(source)
    if names and set(source.config_classes) == set(names):
        return source.config_classes, 'the config'
    return names, os.path.join(source.root, source.option('split') or '')


# What names the classes of each kind of data, and where; empty where the data are absent.
_NAMES = {'coco': _coco_classes, 'label maps': _label_map_classes, 'class folders': _folder_classes}


def _set_classes(source: Source, classes: list[str]) -> list[str]:
    """Writes the classes into the config of a data set, where it does not have them; returns lines to print."""
    if source.kind == 'class folders':
        source.cfg.classes = list(classes)
        return []
    metainfo = source.cfg.get('metainfo') or {}
    if source.classes == classes and not isinstance(metainfo.get('classes'), str):
        return []
    source.cfg.metainfo = ConfigDict(metainfo, classes=tuple(classes), palette=palette(len(classes)))
    # Without that file, a choice of the classes of the type: mmseg maps their numbers.
    if source.kind == 'label maps' and source.default_classes and os.path.isfile(_class_file(source)):
        return [_take_any_classes(source)]
    return []


def _take_any_classes(source: Source) -> str:
    """Turns a data set of mmseg that is made for certain classes, such as ADE20KDataset, into one that takes any."""
    name = source.cfg.type
    options = {key: source.option(key) for key in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')}
    source.cfg.update(options, type='mmseg.BaseSegDataset')
    return f'{name} becomes BaseSegDataset, which takes any classes, with {options}'


def _use_colors(source: Source) -> list[str]:
    """Has label maps read by the colors of classes.txt, where it gives such; returns lines to print."""
    path = _class_file(source)
    if source.kind != 'label maps' or not os.path.isfile(path) or not (colors := read_classes(path).colors):
        return []
    import_module('mae_backbone.segmentation')  # registers what reads colors
    source.cfg.metainfo = ConfigDict(source.cfg.get('metainfo') or {}, classes=tuple(source.classes), palette=colors)
    for step in dicts_in(source.option('pipeline')):
        if str(step.get('type')).endswith('LoadAnnotations'):
            step.update(type='mae_backbone.LoadAnnotations', palette=colors, ignored=read_classes(path).ignored)
    return [f'label maps in colors are read by those of {path}']


def palette(count: int) -> list[tuple[int, int, int]]:
    """Colors (red, green, blue) in 0..255 that differ well: hues at steps of the golden ratio."""
    colors = (colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.8, 0.6 + 0.4 * (i % 2)) for i in range(count))
    return [tuple(round(255 * part) for part in color) for color in colors]


def _set_num_classes(model: object, count: int) -> None:
    """Sets every `num_classes` of a model's heads; 0 stays, which means a model without a head."""
    for part in model if isinstance(model, (list, tuple)) else [model]:
        if not isinstance(part, dict):
            continue
        if part.get('num_classes'):
            part['num_classes'] = count
        for key, value in part.items():
            if key not in _OTHER_CLASSES:
                _set_num_classes(value, count)


def _fit_class_weights(model: object, count: int) -> list[str]:
    """Takes weights of other classes out of the losses; returns a line if there were any.

    Where all classes weigh the same they stay, as many as there are classes now, and so does what follows them: the
    weight that mask classification has for no object.
    """
    lines = []
    for head in dicts_in(model):
        old = head.get('num_classes') or 0
        for loss in dicts_in(list(head.values()) if old else None):
            weights = list(loss.get('class_weight') or [])
            if len(set(weights[:old])) == 1:
                loss['class_weight'] = weights[:1] * count + weights[old:]
            elif weights:
                loss['class_weight'] = None
                lines = ["the config's class weights are those of other classes, and left out: tools/check_data.py "
                         'computes such for yours']
    return lines
