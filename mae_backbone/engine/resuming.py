"""Optimizer and schedules of a resumed run: the moments of the checkpoint, the settings of the config.

A schedule that the user has changed since the checkpoint was saved counts from the first iteration on, as if the run
had always had it. One that is unchanged continues from its saved state, bit for bit.
"""
import warnings
from collections.abc import Iterable
from pathlib import Path

from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import check_optimizer_state

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
    """Steps schedules through the iterations and epochs of a run, in the order in which MMEngine steps them."""
    per_epoch = iterations // epochs if epochs else 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # that the optimizer has not taken these steps
        for iteration in range(1, iterations + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if per_epoch and iteration % per_epoch == 0 and iteration // per_epoch <= epochs:
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()


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
