"""What happens when losses or gradients are not finite again and again."""
import math

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.checkpoints.run_files import find_corruption, read_run, saved_checkpoints
from mae_backbone.engine.optim_wrapper import GuardedOptimWrapper, between_steps
from mae_backbone.hooks.device_scalars import bring_over
from mae_backbone.registry import HOOKS

# Steps in a row that float16 may skip while it looks for the scale of its loss: from 2**16, GradScaler's first, to 1.
_FLOAT16_SEARCH = 16


class NonFiniteError(ValueError):
    """A run whose losses or gradients are not finite, and that going back did not mend."""

    everywhere = True  # every process of the run says so: one message is enough


@HOOKS.register_module()
class GuardHook(Hook):
    """Counts the steps that `GuardedOptimWrapper` skipped, goes back when too many follow one another, and gives up.

    Going back is to the weights and the moments of the last checkpoint that was not saved amid skipped steps, a
    second time to an older one where there is one. Data, learning rate and log go on from where they are: the batches
    after the failing ones come next, not these again.

    Args:
        patience: so many skipped steps in a row lead back. One is chance, such as an outlier of an image; after five
            the cause is in the weights. With float16 it is 16 more, which the scale of the loss may need.
        returns: how often that may happen before the run stops with an error.
        interval: iterations between two looks at the device, which wait for it once. Skipped steps do no harm
            meanwhile.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, *, patience: int = 5, returns: int = 2, interval: int = 20) -> None:
        if patience < 1 or returns < 0 or interval < 1:
            raise ValueError(f'patience={patience}, returns={returns}, interval={interval}: wanted at least 1, 0 and 1')
        self.patience, self.returns, self.interval = patience, returns, interval
        self.state = dict(steps=0, skipped=0, streak=0, longest=0, returned=0)
        self.norm = math.nan            # of the last gradients that were finite
        self.news: list[int] = []       # steps skipped since the last look
        self.gone_to: list[str] = []
        self.training = False

    def before_train(self, runner: Runner) -> None:
        """Checks that there is something to guard."""
        if not isinstance(runner.optim_wrapper, GuardedOptimWrapper):
            raise ValueError(f'GuardHook counts what a GuardedOptimWrapper skips, but the optim_wrapper is '
                             f'{type(runner.optim_wrapper).__name__}: set optim_wrapper.type='
                             "'mae_backbone.GuardedOptimWrapper', or remove the hook")
        self.training = True
        self.patience += _FLOAT16_SEARCH * (runner.optim_wrapper.scaler is not None)

    def after_device_log(self, runner: Runner, numbers: dict[str, list[float]]) -> None:
        """Takes in what the steps recorded."""
        state = self.state
        for norm, skipped in zip(numbers.get('grad_norm', ()), numbers.get('skipped', ()), strict=True):
            state['steps'] += 1
            state['streak'] = state['streak'] + 1 if skipped else 0
            state['longest'] = max(state['longest'], state['streak'])
            if skipped:
                state['skipped'] += 1
                self.news.append(state['steps'])
            else:
                self.norm = norm

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Looks, every so many iterations, and acts."""
        # In iterations of the run, not since its last start: a resumed run decides where the first would have.
        if (runner.iter + 1) % self.interval or between_steps(runner.optim_wrapper):
            return
        bring_over(runner)
        self._say(runner)
        if self.state['longest'] >= self.patience:
            self._go_back(runner)
            self.state.update(streak=0, longest=0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keeps the counts in the checkpoint."""
        bring_over(runner)
        checkpoint['guard'] = dict(self.state)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes the counts up again where a run is resumed."""
        if not self.training and runner._resume:
            self.state.update(checkpoint.get('guard', {}))

    def _say(self, runner: Runner) -> None:
        if self.news:
            shown = ', '.join(str(step) for step in self.news[:5]) + (', ...' if len(self.news) > 5 else '')
            runner.logger.warning(f'{len(self.news)} steps skipped since the last look, because the loss or a gradient '
                                  f'was not finite: steps {shown}; {self.state["skipped"]} of '
                                  f'{self.state["steps"]} in all')
            self.news = []

    def _go_back(self, runner: Runner) -> None:
        if self.state['returned'] >= self.returns:
            raise NonFiniteError(self._report(runner))
        self.state['returned'] += 1
        found = [self._last_good(runner) if is_main_process() else None]
        broadcast_object_list(found)
        path = found[0]
        if path is None:
            runner.logger.warning(f'{self.state["longest"]} skipped steps in a row, and no checkpoint to go back to: '
                                  'going on with other data')
            return
        self.gone_to.append(path)
        runner.logger.warning(f'{self.state["longest"]} skipped steps in a row: back to the weights of {path}, on with '
                              f'other data ({self.state["returned"]} of {self.returns} times)')
        runner.return_to(path)

    def _last_good(self, runner: Runner) -> str | None:
        """The latest whole checkpoint from before the trouble; another than last time where there is one."""
        good = []
        for path in saved_checkpoints(runner.work_dir):
            if find_corruption(path) is None:
                content = read_run(path)
                # Later ones are of a run that went on from here before, and was given up for an earlier checkpoint.
                if content['meta']['iter'] <= runner.iter and not content.get('guard', {}).get('streak'):
                    good.append(str(path))
        return next((path for path in good if path not in self.gone_to), good[-1] if good else None)

    def _report(self, runner: Runner) -> str:
        state, lr = self.state, runner.optim_wrapper.get_lr()['lr'][0]
        return (f'the training does not recover: losses or gradients are not finite for {state["longest"]} steps in a '
                f'row at iteration {runner.iter + 1}, after {self.returns} returns to a checkpoint. Learning rate '
                f'{lr:.3g}; norm of the last finite gradients {self.norm:.3g}; {state["skipped"]} of {state["steps"]} '
                f'steps skipped ({state["skipped"] / state["steps"]:.1%}). Lower optim_wrapper.optimizer.lr or '
                'lengthen the warm-up; set optim_wrapper.clip_grad.max_norm=1.0; with --amp try without; and see that '
                'the images hold no nan (arrays of floats). Checkpoints stay: --resume goes on from the last one')
