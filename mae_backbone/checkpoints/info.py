"""Summary of a checkpoint file: layout, model, training, classes, results, and parts of the weights."""
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mae_backbone.checkpoints.config_text import config_text_in, parse_config
from mae_backbone.checkpoints.detectron2 import from_detectron2
from mae_backbone.checkpoints.layouts.registry import find_layouts
from mae_backbone.checkpoints.published import KEY, read_checkpoint
from mae_backbone.checkpoints.state_dicts import is_finite
from mae_backbone.checkpoints.weight_files import open_weights
from mae_backbone.utils.printable import printable

_LISTED = 20  # largest number of classes and of parts that are listed


@dataclass(frozen=True)
class CheckpointInfo:
    """Facts about a checkpoint file. `str(info)` is a summary as text.

    Attributes:
        path: path of the file or folder.
        num_bytes: size in bytes of the file, or of all files in the folder.
        kind: text about the program that wrote the file.
        vits: layout of each ViT by the prefix of its names.
        parts: number of parameters by the first parts of their names.
        dtypes: number of tensors of each dtype.
        num_tensors, num_parameters: number of tensors, and of their elements.
        not_finite: names of weights that are NaN or infinite.
        task: task of the model; '' if the file does not state it.
        classes: id, name and color of each class, as dicts.
        model: settings of the model: its types, architecture and sizes.
        training: epoch, iteration, time, seed and command, if the file states them.
        versions: versions of the packages that wrote the file, by name.
        results: metrics of the last validation before the file was saved, and the training loss at this time.
        results_iter: number of iterations before this validation; None if the file does not state it.
        pixels: normalization of the pixels: 'mean' and 'std'.
        holds: other content of the file, such as 'optimizer'.
        config: text of the config; '' if the file has none.
    """

    path: Path
    num_bytes: int
    kind: str
    vits: dict[str, str]
    parts: dict[str, int]
    dtypes: dict[str, int]
    num_tensors: int
    num_parameters: int
    not_finite: list[str]
    task: str = ''
    classes: list[dict] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)
    results_iter: int | None = None
    pixels: dict[str, list[float]] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    config: str = ''

    def __str__(self) -> str:
        return '\n'.join(map(printable, self._lines()))

    def _lines(self) -> Iterator[str]:
        yield f'{self.path}: {self.kind}, {self.num_bytes / 1e6:,.1f} MB'
        dtypes = ', '.join(f'{count} {name}' for name, count in self.dtypes.items())
        yield f'  weights   {self.num_parameters:,} parameters in {self.num_tensors:,} tensors ({dtypes})'
        if self.not_finite:
            yield f'  WARNING   {len(self.not_finite)} tensors are NaN or infinite: {_listed(self.not_finite)}'
        for prefix, layout in self.vits.items():
            yield f'  ViT       {layout}' + f', under {prefix!r}' * bool(prefix)
        if self.task:
            yield f'  task      {self.task}'
        yield from (f'  {name:<10}{value}' for name, value in self.model.items())
        if self.pixels:
            yield '  pixels    ' + ', '.join(f'{name} {values}' for name, values in self.pixels.items())
        if self.classes:
            names = [f'{one["name"]} ({one["id"]})' if 'id' in one else one['name'] for one in self.classes]
            yield f'  classes   {len(names)}: {_listed(names)}'
        if self.results:
            place = '' if self.results_iter is None else f' (validation after {self.results_iter:,} iterations)'
            yield '  results   ' + ', '.join(f'{name} {value:.4g}' for name, value in self.results.items()) + place
        yield from (f'  {name:<10}{value}' for name, value in self.training.items())
        if self.versions:
            yield '  versions  ' + ', '.join(f'{name} {value}' for name, value in self.versions.items())
        if self.holds:
            yield f'  also has  {", ".join(self.holds)}'
        if not self.config:
            yield '  config    none: the file does not say how its model is built'
        yield '  parts'
        for name, count in list(self.parts.items())[:_LISTED]:
            yield f'    {name:<40} {count:>14,}'
        if len(self.parts) > _LISTED:
            yield f'    and {len(self.parts) - _LISTED} more'


def info(path: str | Path) -> CheckpointInfo:
    """Describes a checkpoint file, or a folder in the format of Hugging Face or timm.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, or has no weights.
    """
    path = Path(path)
    content = {} if path.is_dir() else read_checkpoint(path)
    meta = content.get('meta') if isinstance(content, dict) else None
    if isinstance(meta, dict) and isinstance(content, dict) and isinstance(content.get('state_dict'), dict):
        weights: Mapping[str, Tensor] = content['state_dict']
        top: Mapping[str, Any] = content
    else:
        file = open_weights(path)
        weights, top = dict(file.weights), file.content
        if path.suffix == '.pkl':
            weights = from_detectron2(dict(weights))
    weights = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    vits = {prefix: layout.title for prefix, layout in find_layouts(weights, top).items()}
    return CheckpointInfo(
        path, sum(file.stat().st_size for file in files), _kind(content, path), vits, _parts(weights),
        dict(Counter(str(value.dtype).removeprefix('torch.') for value in weights.values())), len(weights),
        sum(value.numel() for value in weights.values()),
        [name for name, value in weights.items() if not is_finite(value)],
        **_stated(content if isinstance(content, dict) else {}))


def _kind(content: object, path: Path) -> str:
    meta = content.get('meta') if isinstance(content, dict) else None
    if isinstance(meta, dict) and isinstance(meta.get(KEY), dict):
        return f'{"published " * (path.suffix == ".safetensors")}checkpoint of mae-backbone'
    if isinstance(meta, dict) and 'mmengine_version' in meta:
        return 'checkpoint of MMEngine'
    return 'folder of weights' if path.is_dir() else 'weights'


def _stated(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `meta` of a run as arguments of `CheckpointInfo`. Values of an unexpected type are skipped."""
    meta = content.get('meta')
    if not isinstance(meta, dict):
        return {'holds': [str(key) for key in content if key in ('optimizer', 'optimizer_states', 'args')]}
    described = _dict(meta.get(KEY))
    text = config_text_in(content)
    training = {name: value for name, value in (
        ('epoch', meta.get('epoch')), ('iteration', meta.get('iter')), ('saved', meta.get('time')),
        ('seed', meta.get('seed')), ('command', described.get('command')), ('commit', described.get('commit')),
    ) if isinstance(value, (int, str)) and value != ''}
    classes = [one | {'name': str(one['name'])} for one in _list(described.get('classes'))
               if isinstance(one, dict) and 'name' in one]
    if not classes:
        classes = [{'name': str(name)} for name in _list(_dict(meta.get('dataset_meta')).get('classes'))]
    versions = _dict(described.get('versions')) or (
        {'mmengine': meta['mmengine_version']} if 'mmengine_version' in meta else {})
    return dict(task=str(described.get('task') or ''), classes=classes, training=training, config=text,
                versions={str(name): str(value) for name, value in versions.items()},
                results={str(name): float(value) for name, value in _dict(described.get('results')).items()
                         if isinstance(value, (int, float))},
                results_iter=number if isinstance(number := described.get('results_iter'), int) else None,
                pixels={name: value for name, value in _dict(described.get('pixels')).items() if value},
                model=_model(parse_config(text), described),
                holds=[name for name in ('optimizer', 'param_schedulers', 'message_hub') if name in content])


def _model(cfg: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, str]:
    """Returns texts about the model of a config, by title."""
    model = _dict(cfg.get('model'))
    lines = {'model': str(model['type'])} if 'type' in model else {}
    vit = _dict(model.get('encoder')) or _dict(model.get('backbone'))
    words = [f'{key}={vit[key]}' for key in ('type', 'name', 'arch', 'patch_size', 'image_size', 'in_channels',
                                            'window_size') if key in vit]
    if words:
        lines['encoder'] = ', '.join(words)
    heads = [f'{key} {_dict(model[key]).get("type")}' for key in model
             if key.endswith('head') and 'type' in _dict(model[key])]
    if heads:
        lines['heads'] = ', '.join(heads)
    size = described.get('image_size')
    if isinstance(size, (list, tuple)) and len(size) == 2:
        lines['input'] = f'positions for images of {size[0]}x{size[1]} pixels'
    return lines


def _parts(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Counts parameters by the first parts of their names. Numbered blocks and list elements are counted together."""
    parts: Counter[str] = Counter()
    for name, value in weights.items():
        words = name.split('.')[:-1] or [name]
        end = next((i for i, word in enumerate(words) if word.isdecimal()), len(words))
        parts['.'.join(words[:min(end, 3)]) or name] += value.numel()
    return dict(parts)


def _listed(names: list[str]) -> str:
    return ', '.join(names[:_LISTED]) + f' and {len(names) - _LISTED} more' * (len(names) > _LISTED)


def _list(value: object) -> list | tuple:
    return value if isinstance(value, (list, tuple)) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
