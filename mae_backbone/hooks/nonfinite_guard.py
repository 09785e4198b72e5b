"""Rolls back to the last good checkpoint after repeated non-finite losses or gradients."""
import math
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.checkpoints.run_files import find_corruption, read_run, saved_checkpoints
from mae_backbone.engine.optim_wrapper import GuardedOptimWrapper, between_steps
from mae_backbone.hooks.device_scalars import publish_scalars
from mae_backbone.registry import HOOKS

# Number of steps in a row that are skipped in float16 while the scale of the loss is reduced from 2**16, the first
# value of GradScaler, to 1.
_FLOAT16_SEARCH = 16
_MAX_STEPS_SHOWN = 5


class NonFiniteError(ValueError):
    """Error: losses or gradients of a run stay non-finite, also after a rollback."""

    everywhere = True  # every process of the run raises it: one message is enough


@HOOKS.register_module()
class GuardHook(Hook):
    """Counts the steps that `GuardedOptimWrapper` skipped, rolls back after too many in a row, and finally raises.

    A rollback restores weights and optimizer moments from the last checkpoint that was not saved during a series of
    skipped steps. A second rollback uses an older checkpoint if there is one. Data, learning rate and log are not
    rolled back. The training continues with the batches after the failed steps.

    Args:
        patience: number of skipped steps in a row that cause a rollback. A single step may be caused by an unusual
            image. After five steps in a row, the cause is in the weights. In float16, 16 more steps are allowed, which
            the scaling of the loss may need.
        returns: number of rollbacks before the run stops with an error.
        interval: number of iterations between two checks. A check waits for the device. Steps with non-finite gradients
            are skipped in any case.

    Raises:
        NonFiniteError: the losses or gradients are still non-finite after all rollbacks.
        ValueError: an argument is out of range, or the optimizer wrapper is not a `GuardedOptimWrapper`.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, *, patience: int = 5, returns: int = 2, interval: int = 20) -> None:
        if patience < 1 or returns < 0 or interval < 1:
            raise ValueError(f'patience={patience}, returns={returns}, interval={interval}: expected at least 1, 0 and '
                             '1')
        self.patience, self.returns, self.interval = patience, returns, interval
        self.state = dict(steps=0, skipped=0, streak=0, longest=0, returned=0)
        self.norm = math.nan  # norm of the last finite gradients
        self.newly_skipped: list[int] = []  # steps since the last check
        self.rolled_back_to: list[str] = []
        self.foreign: set[tuple[str, int]] = set()  # checkpoints of an earlier run in the work directory, and times
        self.training = False

    def before_train(self, runner: Runner) -> None:
        """Checks the optimizer wrapper."""
        if not isinstance(runner.optim_wrapper, GuardedOptimWrapper):
            raise ValueError(f'GuardHook counts the steps that a GuardedOptimWrapper skips, but the optim_wrapper is '
                             f'{type(runner.optim_wrapper).__name__}: set optim_wrapper.type='
                             "'mae_backbone.GuardedOptimWrapper', or remove the hook")
        self.training = True
        self.foreign = set() if runner.iter else set(map(_version, saved_checkpoints(runner.work_dir)))
        self.patience += _FLOAT16_SEARCH * (runner.optim_wrapper.scaler is not None)

    def after_device_log(self, runner: Runner, numbers: dict[str, list[float]]) -> None:
        """Counts skipped steps among the recorded ones."""
        state = self.state
        for norm, skipped in zip(numbers.get('grad_norm', ()), numbers.get('skipped', ()), strict=True):
            state['steps'] += 1
            state['streak'] = state['streak'] + 1 if skipped else 0
            state['longest'] = max(state['longest'], state['streak'])
            if skipped:
                state['skipped'] += 1
                self.newly_skipped.append(state['steps'])
            else:
                self.norm = norm

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Checks every `interval` iterations, and rolls back if needed."""
        # By the iteration of the run, not since its last start, so that a resumed run checks in the same iterations.
        if (runner.iter + 1) % self.interval or between_steps(runner.optim_wrapper):
            return
        publish_scalars(runner)
        self._log_skipped(runner)
        if self.state['longest'] >= self.patience:
            self._roll_back(runner)
            self.state.update(streak=0, longest=0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Saves the counts."""
        publish_scalars(runner)
        checkpoint['guard'] = dict(self.state)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restores the counts of a resumed run."""
        if not self.training and runner._resume:
            self.state.update(checkpoint.get('guard', {}))

    def _log_skipped(self, runner: Runner) -> None:
        steps = self.newly_skipped
        if steps:
            shown = ', '.join(map(str, steps[:_MAX_STEPS_SHOWN])) + (', ...' if len(steps) > _MAX_STEPS_SHOWN else '')
            runner.logger.warning(f'{len(steps)} steps skipped since the last check, because the loss or a gradient '
                                  f'was not finite: steps {shown}; {self.state["skipped"]} of '
                                  f'{self.state["steps"]} in total')
            self.newly_skipped = []

    def _roll_back(self, runner: Runner) -> None:
        if self.state['returned'] >= self.returns:
            raise NonFiniteError(self._report(runner))
        self.state['returned'] += 1
        chosen = [self._last_good(runner) if is_main_process() else None]
        broadcast_object_list(chosen)
        path = chosen[0]
        if path is None:
            runner.logger.warning(f'{self.state["longest"]} skipped steps in a row, and no checkpoint to roll back to: '
                                  'continuing with other data')
            return
        self.rolled_back_to.append(path)
        runner.logger.warning(f'{self.state["longest"]} skipped steps in a row: rolled back to the weights of {path}, '
                              f'continuing with other data (rollback {self.state["returned"]} of {self.returns})')
        runner.return_to(path)

    def _last_good(self, runner: Runner) -> str | None:
        """Returns the latest complete checkpoint before the failure, preferably not the one of the last rollback."""
        good = []
        for path in saved_checkpoints(runner.work_dir):
            if _version(path) not in self.foreign and find_corruption(path) is None:
                content = read_run(path)
                # Checkpoints of later iterations belong to an earlier attempt, which was rolled back from there.
                if content['meta']['iter'] <= runner.iter and not content.get('guard', {}).get('streak'):
                    good.append(str(path))
        return next((path for path in good if path not in self.rolled_back_to), good[-1] if good else None)

    def _report(self, runner: Runner) -> str:
        state, lr = self.state, runner.optim_wrapper.get_lr()['lr'][0]
        return (f'training does not recover: losses or gradients are not finite for {state["longest"]} steps in a row '
                f'at iteration {runner.iter + 1}, after {self.returns} rollbacks. Learning rate {lr:.3g}; norm of the '
                f'last finite gradients {self.norm:.3g}; {state["skipped"]} of {state["steps"]} steps skipped '
                f'({state["skipped"] / state["steps"]:.1%}). Lower optim_wrapper.optimizer.lr or use a longer warm-up; '
                'set optim_wrapper.clip_grad.max_norm=1.0; try without --amp; check that the images contain no nan '
                '(float arrays). Checkpoints are kept: --resume continues from the last one')


def _version(path: Path) -> tuple[str, int]:
    """Path and time of a file, which differ after it was written again."""
    return str(path), path.stat().st_mtime_ns
