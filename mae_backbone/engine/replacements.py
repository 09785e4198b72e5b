"""Parts of a config that this package builds in another way than MMEngine: optimizer wrapper, loops, hooks, metrics."""
import importlib
from copy import copy
from typing import Any

_GUARDED = 'mae_backbone.GuardedOptimWrapper'
_MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
_LOOPS = {'IterBasedTrainLoop': 'mae_backbone.ResumableIterLoop',
          'EpochBasedTrainLoop': 'mae_backbone.ResumableEpochLoop'}
# Options of MMEngine's OptimWrapper and AmpOptimWrapper that the guarded wrapper has, too.
_WRAPPER_OPTIONS = frozenset({'type', 'optimizer', 'constructor', 'paramwise_cfg', 'clip_grad', 'accumulative_counts'})
_AMP_OPTIONS = _WRAPPER_OPTIONS | {'dtype', 'loss_scale'}


def guarded(optim_wrapper: Any) -> Any:
    """Converts the config of an OptimWrapper or AmpOptimWrapper to a GuardedOptimWrapper. Other configs stay."""
    if not isinstance(optim_wrapper, dict):
        return optim_wrapper
    kind, keys = optim_wrapper.get('type', 'OptimWrapper'), set(optim_wrapper)
    plain = kind == 'OptimWrapper' and keys <= _WRAPPER_OPTIONS and 'optimizer' in keys
    amp = kind == 'AmpOptimWrapper' and keys <= _AMP_OPTIONS and optim_wrapper.get('dtype') in ('bfloat16', 'float16')
    if plain or amp:
        optim_wrapper = copy(optim_wrapper)
        optim_wrapper['type'] = _GUARDED
        optim_wrapper.pop('loss_scale', None)
    return optim_wrapper


def our_hooks(hooks: dict | None, optim_wrapper: Any, *, freeze_encoder_iters: int = 0) -> dict:
    """Converts the config of the default hooks to the hooks of a run, with our hooks for checkpoints and log lines.

    Args:
        hooks: `default_hooks` of the config; None switches a hook off.
        optim_wrapper: of the config. If it skips non-finite steps, the run rolls back after several of them, and losses
            stay on the device until a log line is due.
        freeze_encoder_iters: number of iterations in which the encoder is frozen.
    """
    hooks = dict(hooks or {})
    _add(hooks, 'preemption', 'PreemptionHook')
    wrapper = guarded(optim_wrapper)
    if isinstance(wrapper, dict) and wrapper.get('type') == _GUARDED:
        _add(hooks, 'device_log', 'DeviceLogHook')
        _add(hooks, 'guard', 'GuardHook')
        info = hooks.get('runtime_info', dict(type='RuntimeInfoHook'))
        if hooks['device_log'] and isinstance(info, dict) and info.get('type') == 'RuntimeInfoHook':
            hooks['runtime_info'] = dict(type='mae_backbone.DeviceInfoHook')
    if freeze_encoder_iters:
        hooks.setdefault('freeze_encoder', dict(type='mae_backbone.FreezeEncoderHook', iters=freeze_encoder_iters))
    for name, default, ours in (('checkpoint', dict(type='CheckpointHook', interval=1), 'WholeCheckpointHook'),
                                ('logger', dict(type='LoggerHook'), 'RunLoggerHook')):
        hook = hooks.get(name, default)
        if isinstance(hook, dict) and hook.get('type') == default['type']:
            hooks[name] = {**hook, 'type': f'mae_backbone.{ours}'}
    # MMEngine takes None only for its own hooks.
    return {name: hook for name, hook in hooks.items() if hook is not None or name in _MMENGINE_HOOKS}


def _add(hooks: dict, name: str, kind: str) -> None:
    """Adds a hook that the config does not have. Options without a type, as of --cfg-options, are kept."""
    hook = hooks.setdefault(name, {})
    if isinstance(hook, dict):
        hooks[name] = {'type': f'mae_backbone.{kind}', **hook}


def our_loop(loop: Any) -> Any:
    """Converts the config of a training loop of MMEngine to our loop, which resumes bit for bit."""
    if not isinstance(loop, dict):
        return loop
    loop = dict(loop)
    if 'by_epoch' in loop:
        loop['type'] = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
    loop['type'] = _LOOPS.get(str(loop.get('type')).removeprefix('mmengine.'), loop.get('type'))
    return loop


def our_log_processor(log_processor: Any) -> Any:
    """Converts the config of a LogProcessor to ours, which names skipped steps only if there are any."""
    if isinstance(log_processor, dict) and log_processor.get('type', 'LogProcessor') == 'LogProcessor':
        return {**log_processor, 'type': 'mae_backbone.TrainLogProcessor'}
    return log_processor


def our_evaluator(evaluator: Any) -> Any:
    """Converts the config of an evaluator: our `CocoMetric` and `IoUMetric` replace the metrics of mmdet and mmseg."""
    if not isinstance(evaluator, (dict, list)):
        return evaluator
    return [_our_metric(metric) for metric in (evaluator if isinstance(evaluator, list) else [evaluator])]


def _our_metric(metric: dict) -> dict:
    """Replaces mmdet's CocoMetric and mmseg's IoUMetric in a config by ours, which keep the results of each class."""
    kind = str(metric.get('type'))
    for scope, name, room in (('mmdet', 'CocoMetric', 'detection'), ('mmseg', 'IoUMetric', 'segmentation')):
        if kind in (name, f'{scope}.{name}'):
            importlib.import_module(f'mae_backbone.{room}')  # registers it; a config that names it imports mmdet too
            return {**metric, 'type': f'mae_backbone.{name}'}
    return metric
