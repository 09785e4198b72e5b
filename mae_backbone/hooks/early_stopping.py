"""Hook that stops a training when a metric of the validations no longer improves."""
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS

_STATE = 'early_stopping'  # in the message hub, which checkpoints contain


@HOOKS.register_module()
class EarlyStopHook(EarlyStoppingHook):
    """EarlyStoppingHook of MMEngine whose counter is saved in checkpoints and restored by `--resume`.

    Validations with a metric of 0 do not count before the first one above 0.

    Args:
        monitor: name of the metric, such as 'coco/bbox_mAP'.
        patience: number of validations without improvement after which the training stops.
        min_delta: smallest difference that counts as an improvement, in the unit of the metric. By default any does.
        rule, check_finite, stopping_threshold: as in MMEngine.

    Raises:
        ValueError: the direction of the metric is not known from its name (set `rule`), or a validation does not
            compute it.
    """

    # Before the checkpoint hook (VERY_LOW), whose checkpoints contain the counter.
    priority = 'LOW'

    def __init__(self, monitor: str, *, patience: int, rule: str | None = None, min_delta: float = 1e-6,
                 check_finite: bool = True, stopping_threshold: float | None = None) -> None:
        super().__init__(monitor, rule, min_delta, False, check_finite, patience, stopping_threshold)

    def before_train(self, runner: Runner) -> None:
        """Restores the counter of a resumed run. A run that had stopped does not continue."""
        state = runner.message_hub.runtime_info.get(_STATE)
        if runner.iter and isinstance(state, dict) and state.get('monitor') == self.monitor:
            self.best_score, self.wait_count = float(state['best']), int(state['waited'])
            if self.wait_count >= self.patience:
                runner.logger.info(self._reason(runner))
                runner.train_loop.stop_training = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Counts the validation, and stops the training if the patience is used up."""
        if not metrics:  # as of a detector that has found nothing yet, with some metrics of mmdet
            return
        if self.monitor not in metrics:
            raise ValueError(f'early stopping looks at {self.monitor}, but the validation has computed '
                             f'{", ".join(metrics)}: set default_hooks.checkpoint.save_best to one of these')
        if self.rule == 'greater' and metrics[self.monitor] == 0 and not self.best_score > 0:
            return  # nothing has been found yet, as in the first validations of a detector with random weights
        stops, reason = self._check_stop_condition(metrics[self.monitor])
        runner.message_hub.update_info(_STATE, dict(monitor=self.monitor, best=self.best_score,
                                                    waited=self.wait_count))
        if stops and runner.iter < runner.max_iters:
            runner.train_loop.stop_training = True
            runner.logger.info(self._reason(runner) if self.wait_count >= self.patience else
                               f'training stops after {runner.iter:,} iterations: {reason}')

    def _reason(self, runner: Runner) -> str:
        return (f'training stops after {runner.iter:,} of {runner.max_iters:,} iterations: {self.monitor} has not '
                f'improved in {self.wait_count} validations, its best is {self.best_score:.4g}')
