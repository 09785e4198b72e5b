"""Text of a config file: the choices of a plan as comments, and the differences from the base."""
import textwrap
from collections.abc import Mapping
from shlex import quote
from typing import Any

from mae_backbone.compat.config_templates import without_templates
from mae_backbone.planning.own_data import OwnData
from mae_backbone.planning.plan import Choice, Plan, Stage, shown
from mae_backbone.planning.rules.encoder import GIGABYTE
from mae_backbone.utils.config_files import base_reference

_WIDTH = 118


class Name(str):
    """An expression that is written without quotes, such as the name of a variable."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def config_text(plan: Plan, stage: Stage, data: OwnData, *, file: str, train_images: str,
                pretrained: str | None = None) -> str:
    """Returns the config of a stage as text.

    Args:
        plan: plan with the stage.
        stage: a training.
        data: data that it reads.
        file: name of the config file, for the command in its head.
        train_images: folder or list of the images of a pretraining.
        pretrained: checkpoint of the pretraining that the training starts from; None for the weights of the stage.
    """
    writers = {'pretraining': _pretraining, 'detection': _detection, 'segmentation': _segmentation,
               'classification': _classification}
    body = writers[stage.task](stage, data, train_images)
    if pretrained is not None:
        body['model'].setdefault('backbone', {})['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained)
        if stage.config['model'].get('backbone', {}).get('pretrain_image_size') is None:
            body['model']['backbone'] |= _positions(plan, stage)
    return (f'{_head(plan, stage, data, file)}'
            f'_base_ = [{base_reference(stage.base)!r}]\n\n'
            + ''.join(f'{key} = {formatted(value, len(key) + 3)}\n' for key, value in body.items()))


def _positions(plan: Plan, stage: Stage) -> dict[str, Any]:
    """Image size of the stored positions, and patch size of the pretraining. Not used for a classifier."""
    pretraining = plan.stage('pretraining')
    if pretraining is None or stage.task == 'classification':
        return {}
    return dict(pretrain_image_size=pretraining.config['model']['encoder']['image_size'])


# ---- head

def _head(plan: Plan, stage: Stage, data: OwnData, file: str) -> str:
    command = 'pretrain' if stage.task == 'pretraining' else 'train'
    memory = f', {stage.cost.memory / GIGABYTE:.1f} GB' if stage.cost.memory else ''
    kind = 'measured' if stage.cost.measured else 'estimated'
    lines = [f'{_title(stage)} on {data.root}, planned by `mae-backbone plan`.', '',
             f'Run     mae-backbone {command} {quote(file)} --amp',
             f'Costs   {stage.iterations:,} iterations of {stage.cost.seconds:.3g} s ({kind}): about '
             f'{_time(stage.minutes)}, without validations{memory}', '',
             'Each line: setting: value | reason | source of the rule. Change what you know better.']
    wrapped = [line for text in lines for line in (textwrap.wrap(text, _WIDTH, subsequent_indent=' ' * 8) or [''])]
    choices = [*(plan.decisions if stage is plan.training else ()), *stage.choices]
    wrapped += [line for choice in choices for line in textwrap.wrap(_line(choice), _WIDTH, subsequent_indent='    ')]
    if plan.warnings:
        wrapped += ['', 'Warnings:']
        wrapped += [line for text in plan.warnings for line in textwrap.wrap(text, _WIDTH, initial_indent='  ',
                                                                             subsequent_indent='    ')]
    text = '\n'.join(wrapped).replace('\\', '\\\\').replace('"""', "'''").replace('{{', '{ {')
    return f'"""{text}\n"""\n'


def _line(choice: Choice) -> str:
    return f'  {choice.name}: {shown(choice.value)} | {choice.reason} | {choice.source}'


def _title(stage: Stage) -> str:
    return {'pretraining': 'MAE pretraining', 'detection': 'Detection', 'segmentation': 'Semantic segmentation',
            'classification': 'Classification'}[stage.task]


def _time(minutes: float) -> str:
    if minutes < 1:
        return f'{minutes * 60:.0f} seconds'
    return f'{minutes:.0f} minutes' if minutes < 120 else f'{minutes / 60:.1f} hours'


# ---- body

_RUN_KEYS = ('optim_wrapper', 'auto_scale_lr', 'param_scheduler', 'train_cfg', 'default_hooks', 'custom_hooks')


def _schedule(stage: Stage) -> dict[str, Any]:
    return {key: stage.config[key] for key in _RUN_KEYS if stage.config.get(key)}


def _pretraining(stage: Stage, data: OwnData, train_images: str) -> dict[str, Any]:
    loader = stage.config['train_dataloader']
    dataset = dict(loader['dataset'], data_root=train_images)
    return dict(model=dict(stage.config['model']), train_dataloader=dict(loader, dataset=dataset), **_schedule(stage))


def _detection(stage: Stage, data: OwnData, train_images: str) -> dict[str, Any]:
    config = stage.config
    train, val = (_paths(data.dataset(split), ('ann_file', 'data_prefix')) for split in ('train', 'val'))
    return dict(
        data_root=data.root, **(dict(group_pattern=data.group_pattern) if data.group_pattern else {}),
        train_pipeline=config['train_pipeline'], test_pipeline=config['test_pipeline'],
        model=dict(config['model']),
        train_dataloader=dict(batch_size=config['batch'], **config['sampling'], dataset=dict(
            train, pipeline=Name('train_pipeline'), **config['train_dataset'])),
        val_dataloader=dict(dataset=dict(val, pipeline=Name('test_pipeline'))), test_dataloader=Name('val_dataloader'),
        val_evaluator=dict(ann_file=Name(f'data_root + {"/" + val["ann_file"]!r}'), **config['evaluator']),
        test_evaluator=Name('val_evaluator'), **_schedule(stage))


def _segmentation(stage: Stage, data: OwnData, train_images: str) -> dict[str, Any]:
    config = stage.config
    keys = ('data_prefix', 'img_suffix', 'seg_map_suffix')
    train, val = (_paths(data.dataset(split), keys) for split in ('train', 'val'))
    # Class weights are kept only for the classes that the config names. The colors of the base would be too few.
    classes = dict(metainfo=Name('metainfo'))
    return dict(
        data_root=data.root, metainfo=dict(classes=tuple(data.classes), palette=[]),
        train_pipeline=config['train_pipeline'], test_pipeline=config['test_pipeline'], model=dict(config['model']),
        train_dataloader=dict(batch_size=config['batch'], **config['sampling'],
                              dataset=dict(train, **classes, pipeline=Name('train_pipeline'))),
        val_dataloader=dict(dataset=dict(val, **classes, pipeline=Name('test_pipeline'))),
        test_dataloader=Name('val_dataloader'), **_schedule(stage))


def _classification(stage: Stage, data: OwnData, train_images: str) -> dict[str, Any]:
    config = stage.config
    train, val = (dict(_paths(data.dataset(split), ('split',)), **config['dataset']) for split in ('train', 'val'))
    return dict(
        data_root=data.root, model=dict(config['model']),
        train_dataloader=dict(batch_size=config['batch'], **config['sampling'], dataset=train),
        val_dataloader=dict(dataset=val), test_dataloader=Name('val_dataloader'), **_schedule(stage))


def _paths(dataset: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return dict(data_root=Name('data_root'), **{key: dataset[key] for key in keys})


# ---- Python

def formatted(value: Any, column: int = 0, *, indent: int = 0) -> str:
    """A value as Python code, dicts as `dict(key=value)`, broken at 120 columns.

    Args:
        value: consists of dicts with names as keys, lists, tuples, strings and numbers.
        column: column where the text begins.
        indent: indentation of the line in which it begins.
    """
    single = _single_line(value)
    if column + len(single) <= 119 or not isinstance(value, (dict, list, tuple)) or not value:
        return single
    inner = indent + 4
    if isinstance(value, dict):
        entries = [f'{key}={formatted(entry, inner + len(str(key)) + 1, indent=inner)}'
                   for key, entry in value.items()]
        opening, closing = 'dict(', ')'
    else:
        entries = [formatted(entry, inner, indent=inner) for entry in value]
        opening, closing = ('[', ']') if isinstance(value, list) else ('(', ')')
    lines, current = [], ''
    for entry in entries:
        joined = f'{current}, {entry}' if current else entry
        if current and ('\n' in joined or inner + len(joined) + 1 > 120):
            lines.append(current + ',')
            current = entry
        else:
            current = joined
    lines.append(current + ('' if isinstance(value, dict) else ','))
    pad = ' ' * inner
    end = closing if isinstance(value, dict) else f'\n{" " * indent}{closing}'
    return f'{opening}\n{pad}' + f'\n{pad}'.join(lines) + end


def _single_line(value: Any) -> str:
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_single_line(entry)}" for key, entry in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(_single_line, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_single_line, value))}{"," * (len(value) == 1)})'
    return without_templates(repr(value))


def list_text(paths: list[str]) -> str:
    """Returns a list of image files, one path in each line. Raises ValueError for a path with a line end."""
    broken = [path for path in paths if '\n' in path or '\r' in path]
    if broken:
        raise ValueError(f'{broken[0]!r} has a line end in its name, which a list of files cannot hold: rename it')
    return ''.join(f'{path}\n' for path in paths)
