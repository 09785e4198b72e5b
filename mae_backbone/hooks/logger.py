"""Hook that writes the log lines of a run, at least 20 in each training."""
from collections.abc import Sequence

from mmengine.hooks import LoggerHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mae_backbone.registry import HOOKS

MIN_LINES = 20    # our choice: smallest number of log lines of a training, to see whether the loss decreases
_MIN_WINDOW = 10  # smallest number of iterations over which a log line is averaged, the default of MMEngine


@HOOKS.register_module()
class RunLoggerHook(LoggerHook):
    """MMEngine's LoggerHook with at least 20 lines of a training; our Runner uses it instead, with the same options.

    In a short training `interval` is shortened; one of fewer than 20 iterations gets a line for each. The values in a
    line are averaged over a window that is shortened with the interval, but not below 10 iterations. Lines of
    validations and tests keep the interval of the config.
    """

    def __init__(self, interval: int = 10, **options: object) -> None:
        super().__init__(interval, **options)
        self.evaluation_interval = interval

    def before_run(self, runner: Runner) -> None:
        """Shortens the interval of a training, before other hooks read it."""
        super().before_run(runner)
        if isinstance(runner._train_loop, BaseLoop):
            self.interval = log_interval(runner._train_loop, self.evaluation_interval)
            if self.interval < self.evaluation_interval:
                processor = runner.log_processor
                processor.window_size = min(processor.window_size, max(self.interval, _MIN_WINDOW))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: Sequence | None = None) -> None:
        """Logs at the interval of the config."""
        if self.every_n_inner_iters(batch_idx, self.evaluation_interval):
            _, line = runner.log_processor.get_log_after_iter(runner, batch_idx, 'val')
            runner.logger.info(line)


def log_interval(loop: BaseLoop, interval: int) -> int:
    """The largest interval of at most `interval` iterations that gives `MIN_LINES` lines; 1 if there is none."""
    for shorter in range(interval, 1, -1):
        if _num_lines(loop, shorter) >= MIN_LINES:
            return shorter
    return 1


def _num_lines(loop: BaseLoop, interval: int) -> int:
    """Log lines of a whole training. MMEngine counts the interval from the beginning of an epoch."""
    if not isinstance(loop, EpochBasedTrainLoop):
        return loop.max_iters // interval
    steps = max(1, len(loop.dataloader))
    return max(1, steps // interval) * (loop.max_iters // steps) + loop.max_iters % steps // interval
