"""Hooks that move scalars from the device to the log only when a log line is written."""
from mmengine.hooks import Hook, LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mae_backbone.registry import HOOKS
from mae_backbone.utils import device_scalars


@HOOKS.register_module()
class DeviceLogHook(Hook):
    """Adds all values of `device_scalars.record` to the message hub as `train/<name>`, in their order.

    This happens when the LoggerHook logs, at the end of an epoch, and before a checkpoint is saved, so that the saved
    history is complete. At other times the host does not wait for the device.
    """

    # Before MMEngine's IterTimerHook (NORMAL), so that waiting for the device counts as step time, not as data time.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self.interval = 10

    def before_train(self, runner: Runner) -> None:
        """Discards the values of an earlier run in this process, and reads the interval of the log."""
        device_scalars.drain()
        self.interval = log_interval(runner, self.interval)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Moves the values if a log line is due."""
        if (self.every_n_inner_iters(batch_idx, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx)
                or self.is_last_train_iter(runner)):
            publish_scalars(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Completes the history that is saved."""
        publish_scalars(runner)
        checkpoint['message_hub'] = runner.message_hub.state_dict()


@HOOKS.register_module()
class DeviceInfoHook(RuntimeInfoHook):
    """RuntimeInfoHook of MMEngine that keeps the losses on the device until `DeviceLogHook` moves them.

    MMEngine reads each loss of a model in each step, and the host waits for the GPU each time. Our Runner uses this
    hook in each training with a `DeviceLogHook`.
    """

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Records the losses that the model has returned."""
        for name, value in (outputs or {}).items():
            if isinstance(value, Tensor) and value.numel() == 1:
                device_scalars.record(name, value)
            else:
                runner.message_hub.update_scalar(f'train/{name}', value)


def log_interval(runner: Runner, default: int) -> int:
    """Iterations between two log lines; `default` without a LoggerHook."""
    return next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), default)


def publish_scalars(runner: Runner) -> None:
    """Moves all recorded values to the message hub, and to every hook with a method `after_device_log`."""
    numbers = device_scalars.drain()
    # Losses come first in a log line, which has the order of the hub.
    for name, values in sorted(numbers.items(), key=lambda item: item[0] in ('grad_norm', 'skipped')):
        for value in values:
            runner.message_hub.update_scalar(f'train/{name}', value)
    if numbers:
        runner.call_hook('after_device_log', numbers=numbers)
