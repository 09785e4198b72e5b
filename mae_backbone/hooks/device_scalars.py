"""What the steps recorded on the device, brought to the log when it is due."""
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS
from mae_backbone.utils import device_scalars


@HOOKS.register_module()
class DeviceLogHook(Hook):
    """Puts what `device_scalars.record` kept into the message hub, as `train/<name>`, every value in its order.

    It does so whenever the LoggerHook logs, at the end of an epoch, and before a checkpoint is saved, whose history is
    then whole. Only there the processor waits for the device.
    """

    # Before MMEngine's IterTimerHook (NORMAL), so that what is waited for counts as time of the step, not of the data.
    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self.interval = 10

    def before_train(self, runner: Runner) -> None:
        """Forgets what an earlier run in this process left, and learns how often the log is written."""
        device_scalars.drain()
        self.interval = log_interval(runner, self.interval)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Brings the values over where a line of the log is due."""
        if (self.every_n_inner_iters(batch_idx, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx)
                or self.is_last_train_iter(runner)):
            bring_over(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Completes the history that is saved."""
        bring_over(runner)
        checkpoint['message_hub'] = runner.message_hub.state_dict()


def log_interval(runner: Runner, otherwise: int) -> int:
    """Iterations between two lines of the log."""
    return next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), otherwise)


def bring_over(runner: Runner) -> None:
    """What was recorded -> the message hub, and to every hook that has a method `after_device_log`."""
    numbers = device_scalars.drain()
    for name, values in numbers.items():
        for value in values:
            runner.message_hub.update_scalar(f'train/{name}', value)
    if numbers:
        runner.call_hook('after_device_log', numbers=numbers)
