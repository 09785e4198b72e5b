"""Optimizer and schedules of a resumed run: the moments of the checkpoint, the settings of the config.

A schedule that the user has changed since the checkpoint was saved counts from the first iteration on, as if the run
had always had it. One that is unchanged continues from its saved state, bit for bit.
"""
from collections.abc import Callable, Iterable
from copy import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import check_optimizer_state, is_finite_number

# Entries of a scheduler's state that change from step to step; all others are settings.
_POSITION = ('last_step', '_global_step', '_last_value', 'verbose')


def resume_optimizer(wrapper: OptimWrapper, schedulers: Iterable[_ParamScheduler], checkpoint: dict,
                     path: str | Path) -> bool:
    """Restores an optimizer and its schedules from a checkpoint.

    Moments come from the checkpoint. Weight decay, betas and so on come from the config, and so does the learning rate
    if its schedule has changed.

    Args:
        wrapper: the optimizer as the config builds it, before its first step.
        schedulers: its schedules, before their first step.
        checkpoint: of a run, with `meta.iter` and `meta.epoch`.
        path: of the checkpoint, for messages.

    Returns:
        Whether a schedule or the learning rate differs from the checkpoint.

    Raises:
        CheckpointError: the state of the optimizer does not belong to the parameters.
    """
    schedulers, state = list(schedulers), checkpoint['optimizer']
    check_optimizer_state(state, wrapper.optimizer, path)
    stored = checkpoint.get('param_schedulers', [])
    changed = not isinstance(stored, list) or not _same_settings(schedulers, stored)
    scheduled = {'lr', *(scheduler.param_name for scheduler in schedulers)}
    groups = wrapper.optimizer.state_dict()['param_groups']
    for saved in state['param_groups']:
        bad = [name for name, value in saved.items()
               if name.removeprefix('initial_') in scheduled and not is_finite_number(value)]
        if bad:
            raise CheckpointError(f'{path}: {bad[0]} of its optimizer is {saved[bad[0]]!r:.60}, expected a number: the '
                                  'file was changed or damaged, copy it again')
    if not schedulers:
        changed |= [group['lr'] for group in groups] != [saved['lr'] for saved in state['param_groups']]
    for group, saved in zip(groups, state['param_groups'], strict=True):
        group['params'] = saved['params']
        if not changed and schedulers:
            # The schedules compute each value from the one before it, so that these belong to their state.
            group.update({name: saved[name] for name in saved if name.removeprefix('initial_') in scheduled})
    wrapper.load_state_dict({name: value for name, value in state.items() if name != 'base_param_settings'}
                            | dict(param_groups=groups))
    if changed:
        fast_forward(schedulers, iterations=checkpoint['meta']['iter'], epochs=checkpoint['meta']['epoch'])
    else:
        for scheduler, saved in zip(schedulers, stored, strict=True):
            scheduler.load_state_dict(saved)
    return changed


def fast_forward(schedulers: list[_ParamScheduler], *, iterations: int, epochs: int) -> None:
    """Takes schedules to where the iterations and epochs of a run lead, with exactly the values of single steps.

    MMEngine's schedulers compute each value from the one before it, and round each time. The steps are therefore taken
    one by one, but of all parameter groups at once, as an array, and without the bookkeeping of `step`: a second for
    100,000 iterations.
    """
    try:
        _fast_forward(schedulers, iterations=iterations, epochs=epochs, groups=_stacked_groups)
    except (TypeError, ValueError):  # a scheduler that compares values, which an array of several cannot be
        _fast_forward(schedulers, iterations=iterations, epochs=epochs, groups=_single_groups)


def _fast_forward(schedulers: list[_ParamScheduler], *, iterations: int, epochs: int,
                  groups: Callable[[list[dict], str], list[dict]]) -> None:
    """Takes the steps on copies of the parameter groups, and writes the results back if all succeed."""
    copies: dict[str, list[dict]] = {}
    twins = []
    for scheduler in schedulers:
        name, real = scheduler.param_name, scheduler.optimizer.param_groups
        twin = copy(scheduler)
        twin.optimizer = SimpleNamespace(param_groups=copies.setdefault(name, groups(real, name)))
        twin.base_values = [group['base'] for group in groups([{'base': base} for base in scheduler.base_values],
                                                              'base')]
        twins.append(twin)
    per_epoch = iterations // epochs if epochs else 0
    for iteration in range(1, iterations + 1):
        ends_epoch = per_epoch and iteration % per_epoch == 0 and iteration // per_epoch <= epochs
        for twin in twins:
            if not twin.by_epoch:
                _step(twin)
        if ends_epoch:
            for twin in twins:
                if twin.by_epoch:
                    _step(twin)
    for scheduler, twin in zip(schedulers, twins, strict=True):
        name, real = scheduler.param_name, scheduler.optimizer.param_groups
        for group, value in zip(real, _as_numbers([group[name] for group in copies[name]]), strict=True):
            group[name] = value
        state = {key: value for key, value in vars(twin).items() if key not in ('optimizer', 'base_values')}
        vars(scheduler).update(state, _last_value=_as_numbers(twin._last_value))


def _step(scheduler: _ParamScheduler) -> None:
    """`_ParamScheduler.step` without its warnings and prints."""
    scheduler._global_step += 1
    if scheduler.begin <= scheduler._global_step < scheduler.end:
        scheduler.last_step += 1
        for group, value in zip(scheduler.optimizer.param_groups, scheduler._get_value(), strict=True):
            group[scheduler.param_name] = value
    scheduler._last_value = [group[scheduler.param_name] for group in scheduler.optimizer.param_groups]


def _as_numbers(values: list) -> list[float]:
    """Numbers, or one array of them, as numbers."""
    return np.concatenate([np.atleast_1d(value) for value in values]).tolist()


def _stacked_groups(groups: list[dict], name: str) -> list[dict]:
    """One group that holds a parameter of all groups, and its bounds, as arrays of float64, the numbers of Python."""
    keys = [key for key in groups[0] if key.endswith(name)]  # such as lr, initial_lr, max_lr
    return [{key: np.array([group[key] for group in groups], np.float64) for key in keys}]


def _single_groups(groups: list[dict], name: str) -> list[dict]:
    return [{key: value for key, value in group.items() if key != 'params'} for group in groups]


def check_epoch_length(meta: dict, length: int, path: str | Path) -> None:
    """Raises CheckpointError if a run by epochs was saved with another number of iterations per epoch."""
    epoch, iteration = meta['epoch'], meta['iter']
    if not epoch * length <= iteration <= (epoch + 1) * length:
        raise CheckpointError(f'{path} was saved after {epoch} epochs and {iteration} iterations, but an epoch of this '
                              f'config has {length} iterations: its data or its batch size is another one, and the '
                              'schedule would not fit. Set train_dataloader.batch_size back and use the same data; or '
                              'start a new run from its weights, with load_from=CHECKPOINT and without --resume')


def _same_settings(schedulers: list[_ParamScheduler], stored: list[dict]) -> bool:
    return len(schedulers) == len(stored) and all(
        _settings(scheduler.state_dict()) == _settings(state)
        for scheduler, state in zip(schedulers, stored, strict=True))


def _settings(state: dict) -> dict:
    return {name: value for name, value in state.items() if name not in _POSITION}
