"""Checks values of a config that torch and MMEngine would refuse only later, misread, or accept without effect."""
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mmengine.config import Config

DTYPES = ('float32', 'bfloat16', 'float16')
_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'WARN', 'ERROR', 'CRITICAL', 'FATAL', 'NOTSET')
_ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')  # MMEngine ignores any other key
_MAX_SEED = 2 ** 32 - 1  # largest seed that NumPy accepts


class _Rule(NamedTuple):
    """A condition on a value of the config. `expected` describes the valid values for messages."""

    expected: str
    is_valid: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_POSITIVE = _Rule('a number greater than 0', lambda value: _is_number(value) and value > 0)
_NOT_NEGATIVE = _Rule('a number of 0 or more', lambda value: _is_number(value) and value >= 0)
_COUNT = _Rule('an integer of 1 or more', lambda value: _is_integer(value) and value >= 1)
_FROM_0 = _Rule('an integer of 0 or more', lambda value: _is_integer(value) and value >= 0)
_WORKERS = _Rule("an integer of 0 or more, or 'auto' for training",
                 lambda value: value == 'auto' or (_is_integer(value) and value >= 0))
_INTERVAL = _Rule('an integer of 1 or more, or -1 for never', lambda value: _is_integer(value) and
                  (value >= 1 or value == -1))
_BETAS = _Rule('two numbers in [0, 1), such as (0.9,0.999)', lambda value: isinstance(value, (list, tuple)) and
               len(value) == 2 and all(_is_number(beta) and 0 <= beta < 1 for beta in value))
_SEED = _Rule('an integer in 0..2**32 - 1', lambda value: value is None or (
    _is_integer(value) and 0 <= value <= _MAX_SEED))
_LEVEL = _Rule(f'one of {", ".join(_LEVELS[:3])}, ERROR', lambda value: value in _LEVELS)
_DTYPE = _Rule(f'one of {", ".join(DTYPES)}', lambda value: value is None or value in DTYPES)
# 'checkpoint' takes the normalization from the weights, see planning/pixel_normalization.py.
_MEAN = _Rule('a list of numbers, one for each channel', lambda value: value in (None, 'checkpoint') or (
    isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_number, value))))
_STD = _Rule('a list of numbers greater than 0, one for each channel', lambda value: value in (None, 'checkpoint') or (
    isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_POSITIVE.is_valid, value))))
_CLIPPING = ('type', 'max_norm', 'norm_type', 'clip_value', 'error_if_nonfinite', 'foreach')
_CLIP = _Rule('a dict such as dict(max_norm=1.0)', lambda value: value is None or (
    isinstance(value, dict) and set(value) <= set(_CLIPPING) and not {'max_norm', 'clip_value'}.isdisjoint(value)))
_FRACTIONS = _Rule('two fractions in (0, 1], the smaller one first', lambda value: isinstance(value, (list, tuple)) and
                   len(value) == 2 and all(map(_is_number, value)) and 0 < value[0] <= value[1] <= 1)
_PROBABILITY = _Rule('a number in [0, 1]', lambda value: _is_number(value) and 0 <= value <= 1)
_DATASET = _Rule('a dict with the type of the data set', lambda value: isinstance(value, dict) and 'type' in value)
_NAMES = _Rule('a list of names', lambda value: value is None or isinstance(value, str) or (
    isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)))
_FLAG = _Rule('True or False', lambda value: isinstance(value, bool))
_LIST = _Rule('a list of dicts with a type', lambda value: value is None or (isinstance(value, (list, tuple)) and all(
    isinstance(item, dict) or not isinstance(item, (str, int, float)) for item in value)))
_SCHEDULE = _Rule('a dict or a list of dicts with a type', lambda value: isinstance(value, dict) or
                  _LIST.is_valid(value))
_INIT = _Rule("a dict, such as dict(type='Pretrained', checkpoint='FILE')", lambda value: _SCHEDULE.is_valid(value))
_FACTOR = _Rule('a number greater than 0 and at most 1', lambda value: _is_number(value) and 0 < value <= 1)

_RULES = {
    'optim_wrapper.optimizer.lr': _POSITIVE,
    'optim_wrapper.optimizer.weight_decay': _NOT_NEGATIVE,
    'optim_wrapper.optimizer.eps': _NOT_NEGATIVE,
    'optim_wrapper.optimizer.betas': _BETAS,
    'optim_wrapper.accumulative_counts': _COUNT,
    'optim_wrapper.dtype': _DTYPE,
    'optim_wrapper.clip_grad': _CLIP,
    'optim_wrapper.clip_grad.max_norm': _POSITIVE,
    'optim_wrapper.clip_grad.clip_value': _POSITIVE,
    'optim_wrapper.clip_grad.norm_type': _Rule('a number greater than 0, or inf', lambda value: isinstance(
        value, (int, float)) and value > 0),
    'optim_wrapper.paramwise_cfg.layer_decay': _FACTOR,
    'auto_scale_lr.base_batch_size': _COUNT,
    'train_cfg.max_epochs': _COUNT,
    'train_cfg.max_iters': _COUNT,
    'train_cfg.val_interval': _COUNT,
    'train_cfg.val_begin': _FROM_0,
    'default_hooks.logger.interval': _COUNT,
    'default_hooks.checkpoint.interval': _INTERVAL,
    'default_hooks.checkpoint.max_keep_ckpts': _INTERVAL,
    'log_processor.window_size': _COUNT,
    'log_level': _LEVEL,
    'randomness.seed': _SEED,
    'env_cfg': _Rule(f'a dict with the keys {", ".join(_ENVIRONMENT)}', lambda value: isinstance(value, dict)
                     and set(value) <= set(_ENVIRONMENT)),
    'env_cfg.mp_cfg.mp_start_method': _Rule('fork, spawn or forkserver', lambda value: value in (
        None, 'fork', 'spawn', 'forkserver')),
    'custom_hooks': _LIST,
    'param_scheduler': _SCHEDULE,
    'model': _Rule("a dict with the type of the model", lambda value: isinstance(value, dict) and 'type' in value),
    'model.probe': _FLAG,
    'tf32': _FLAG,
    'find_unused_parameters': _FLAG,
    'auto_scale_lr.enable': _FLAG,
    'sync_bn': _Rule("'torch' or 'mmcv'", lambda value: value in (None, 'torch', 'mmcv')),
    'train_dataloader.dataset.augment.scale': _FRACTIONS,
    'train_dataloader.dataset.augment.hflip': _PROBABILITY,
    'train_dataloader.dataset.augment.vflip': _PROBABILITY,
    'train_dataloader.dataset.augment.re_prob': _PROBABILITY,
    'model.data_preprocessor.mean': _MEAN,
    'model.data_preprocessor.std': _STD,
    'model.backbone.init_cfg': _INIT,
    'model.encoder.init_cfg': _INIT,
}
# Rules for the keys of every data set, also of a data set inside of another.
_DATASET_RULES = {
    'ann_file': _Rule('text', lambda value: isinstance(value or '', str)),
    'data_prefix': _Rule('a dict of folders, such as dict(img=\'train/\')', lambda value: value is None or isinstance(
        value, str) or (isinstance(value, dict) and all(isinstance(folder or '', str) for folder in value.values()))),
    'metainfo': _Rule('a dict, such as dict(classes=[...])', lambda value: value is None or isinstance(value, dict)),
    'metainfo.classes': _NAMES,
    'classes': _NAMES,
    'pipeline': _LIST,
    'filter_cfg': _Rule('a dict, such as dict(min_size=32)', lambda value: value is None or isinstance(value, dict)),
    'filter_cfg.min_size': _NOT_NEGATIVE,
}


def _of_each(rule: _Rule) -> _Rule:
    def is_valid(value: Any) -> bool:
        values = value if isinstance(value, (list, tuple)) and value else [value]
        return value is None or all(map(rule.is_valid, values))
    return _Rule(f'{rule.expected}, or a list of such', is_valid)


# Rules for every part of the model that has these keys. Some parts take a number for each level or side.
_PARTS = {key: _of_each(rule) for rule, keys in (
        (_COUNT, ('width', 'heads', 'depth', 'patch_size', 'image_size', 'pretrain_image_size', 'in_channels',
                  'out_channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels', 'channels', 'decoder_width',
                  'decoder_heads', 'input_stride', 'strides', 'featmap_strides')),
        (_FROM_0, ('num_classes', 'window_size', 'num_convs', 'extra_levels')),
        (_POSITIVE, ('mlp_ratio', 'scales', 'ratios', 'target_stds')),
        (_Rule('a number in [0, 1)', lambda value: _is_number(value) and 0 <= value < 1),
         ('drop_path_rate', 'dropout_ratio', 'label_smoothing')))
    for key in keys}
_LOADER_RULES = {'batch_size': _COUNT, 'num_workers': _WORKERS, 'dataset': _DATASET}


def check_settings(cfg: Config) -> None:
    """Checks the values of a config against the rules of this file.

    Raises:
        ValueError: a value is wrong. The message states the key, the value and the expected values.
    """
    for key, rule in _RULES.items():
        for value in _values(cfg, key):
            _check(key, value, rule)
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        for name, rule in _LOADER_RULES.items():
            if isinstance(loader, dict) and name in loader and not (name == 'batch_size' and loader[name] is None):
                _check(f'{split}_dataloader.{name}', loader[name], rule)
        for path, dataset in _datasets(loader, f'{split}_dataloader'):
            for key, rule in _DATASET_RULES.items():
                for value in _values(dataset, key):
                    _check(f'{path}.{key}', value, rule)
    _check_parts(cfg.get('model'), 'model')
    schedule = cfg.get('param_scheduler') or []
    for index, scheduler in enumerate([schedule] if isinstance(schedule, dict) else schedule):
        if isinstance(scheduler, dict):
            _check_scheduler(scheduler, f'param_scheduler.{index}')
    _check_channels(cfg)
    _check_stride(cfg)


def _check(key: str, value: object, rule: _Rule) -> None:
    if not rule.is_valid(value):
        raise ValueError(f'{key}={value!r:.80}, expected {rule.expected}: correct it in the config, or pass '
                         f'--cfg-options {key}=...')


def _values(cfg: Any, key: str) -> Iterator[Any]:
    """Yields the value at a dotted key such as 'a.b.c'. Yields nothing if the key does not exist."""
    first, _, rest = key.partition('.')
    if not isinstance(cfg, (dict, Config)) or first not in cfg:
        return
    if rest:
        yield from _values(cfg[first], rest)
    else:
        yield cfg[first]


def _datasets(node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Yields (dotted key, config) of each data set in a dataloader, or in a data set that wraps or joins others."""
    for key in ('dataset', 'datasets'):
        value = node.get(key) if isinstance(node, dict) else None
        for index, dataset in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            if isinstance(dataset, dict):
                own_path = f'{path}.{key}' + f'.{index}' * (value is not dataset)
                yield own_path, dataset
                yield from _datasets(dataset, own_path)


def _check_parts(node: Any, path: str) -> None:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, child in children:
        if isinstance(node, dict) and key in _PARTS and not isinstance(child, dict):
            _check(f'{path}.{key}', child, _PARTS[key])
        else:
            _check_parts(child, f'{path}.{key}')


def _check_scheduler(scheduler: dict, key: str) -> None:
    begin, end = scheduler.get('begin', 0), scheduler.get('end')
    if _is_number(begin) and _is_number(end) and end <= begin:
        raise ValueError(f'{key} begins at {begin} and ends at {end}, expected an end after the beginning: set '
                         f'{key}.begin and {key}.end')
    if scheduler.get('T_max') is not None:
        _check(f'{key}.T_max', scheduler['T_max'], _POSITIVE)
    if 'start_factor' in scheduler:
        _check(f'{key}.start_factor', scheduler['start_factor'], _FACTOR)


def _check_channels(cfg: Config) -> None:
    """Raises ValueError if mean and std have different numbers of channels."""
    (mean,), (std,) = (list(_values(cfg, f'model.data_preprocessor.{name}')) or [None] for name in ('mean', 'std'))
    if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
        raise ValueError(f'model.data_preprocessor has mean={mean} and std={std}, expected both with a number for each '
                         'channel, or neither: set both')


def _check_stride(cfg: Config) -> None:
    """Raises ValueError if the pyramid takes maps of another stride than the backbone makes.

    The levels would have other strides than the anchors, and boxes would be in wrong places.
    """
    patch, stride = (next(_values(cfg, key), None) for key in ('model.backbone.patch_size', 'model.neck.input_stride'))
    if isinstance(patch, int) and isinstance(stride, int) and patch != stride:
        raise ValueError(f'model.backbone.patch_size={patch} and model.neck.input_stride={stride}, expected equal '
                         'numbers, because the pyramid computes its strides from the patches: set both')
