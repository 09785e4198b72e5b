"""Measures speed and memory of a run, and detects a data loader that limits it."""
import datetime
import time

import psutil
import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from mae_backbone.hooks.device_scalars import log_interval
from mae_backbone.hooks.scalar_history import record
from mae_backbone.registry import HOOKS
from mae_backbone.utils.cpu import available_cpus

_START = 20  # steps until the first estimate: the first ones include warm-up, compilation and filling of queues


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Measures images/s, memory and the fraction of time spent waiting for images, for every log line.

    The line shows them as `images_per_s`, `waiting` and, on a CPU, `memory`; they are also recorded over time. After
    20 steps a log line states when the run is expected to end. A warning is logged if the data loader limits the speed.

    Args:
        waiting: fraction of time, in (0, 1), above which the data loader limits the run.

    Raises:
        ValueError: `waiting` is out of range.
    """

    # After DeviceLogHook (40), which waits for the device, so that the step times are complete; before LoggerHook.
    priority = 'NORMAL'

    def __init__(self, *, waiting: float = 0.2) -> None:
        if not 0 < waiting < 1:
            raise ValueError(f'waiting={waiting}, expected a fraction of time in (0, 1), such as 0.2')
        self.threshold = waiting
        self.interval = 10
        self.limited = False  # whether the data loader limited the run when it was last measured
        self.steps_run = 0
        self.clear()

    def clear(self) -> None:
        """Starts a new measuring window."""
        self.images, self.waited, self.busy = 0, 0.0, 0.0
        self.step_end = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Starts the clocks, and registers a hook that runs last to notice when the loop returns to the loader."""
        self.interval = log_interval(runner, self.interval)
        if not any(isinstance(hook, _LastHook) for hook in runner.hooks):
            runner.register_hook(_LastHook(self), priority=100)
        self.steps_run = 0

    def before_train_epoch(self, runner: Runner) -> None:
        """Starts a window: validation and pictures between epochs do not count."""
        self.clear()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Counts the time since the last step as waiting for images."""
        self.step_start = time.perf_counter()
        self.waited += self.step_start - self.step_end

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Counts the step, and measures if a log line is due."""
        self.images += count_images(data_batch)
        self.steps_run += 1
        self.busy += time.perf_counter() - self.step_start
        short_epoch = (isinstance(runner.train_loop, EpochBasedTrainLoop) and batch_idx < self.interval
                       and self.end_of_epoch(runner.train_dataloader, batch_idx))
        if self.every_n_inner_iters(batch_idx, self.interval) or short_epoch:
            self.measure(runner)
        if self.steps_run == _START:
            self.log_end(runner)

    def after_val(self, runner: Runner) -> None:
        """Leaves out a validation between two iterations: it is no waiting for images."""
        self.step_end = time.perf_counter()

    def measure(self, runner: Runner) -> None:
        """Measures the window since the last log line, over all processes."""
        total = max(self.waited + self.busy, 1e-9)
        # All processes take every step together, so that all wait for the slowest.
        sums = torch.tensor([self.images, self.waited / total])
        all_reduce(sums)
        numbers = {'images_per_s': float(sums[0]) / total, 'waiting': float(sums[1]) / get_world_size(),
                   'memory': memory_in_use()}
        for name, number in numbers.items():
            runner.message_hub.update_scalar(f'train/{name}', number)
        record(runner, numbers, at=runner.iter + 1)
        if self.steps_run > self.interval:  # in the first window the loader still fills its queues
            self.advise(runner, numbers['waiting'])
        self.clear()

    def advise(self, runner: Runner, waiting: float) -> None:
        """Warns when the data loader begins to limit the run."""
        if waiting > self.threshold and not self.limited:
            runner.logger.warning(loader_advice(waiting, runner.train_dataloader.num_workers, available_cpus(),
                                                get_world_size()))
        # The warning is repeated only if the fraction was below half of the threshold in between. Otherwise a run near
        # the threshold would get many warnings.
        self.limited = waiting > self.threshold if not self.limited else waiting > self.threshold / 2

    def log_end(self, runner: Runner) -> None:
        """Logs when the run will end, from the mean step time without the first step."""
        seconds = runner.message_hub.get_scalar('train/time').data[0][-_START + 1:].mean()
        remaining = seconds * (runner.max_iters - runner.iter - 1)
        end = datetime.datetime.now() + datetime.timedelta(seconds=remaining)
        validation = '' if runner.val_loop is None else ' without validations'
        runner.logger.info(f'measured over {_START - 1} steps: {seconds:.3g} s per step, {duration(remaining)} '
                           f'remaining{validation}, until {end:%a %d %b %H:%M}; memory {memory_in_use():,.0f} MB')


class _LastHook(Hook):
    """Records when all other hooks of an iteration are done; from then on the loop waits for images."""

    def __init__(self, owner: ThroughputHook) -> None:
        self.owner = owner

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Ends the step."""
        self.owner.step_end = time.perf_counter()


def count_images(batch: dict | None) -> int:
    """Number of images in a batch, without the padding images of weight 0."""
    assert batch is not None
    weights = batch.get('weights')
    return int((weights > 0).sum()) if isinstance(weights, Tensor) else len(batch['inputs'])


def memory_in_use() -> float:
    """Memory in MB: on a GPU the peak of all tensors, else the current use of this process and its children."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(map(_resident, processes)) / 2**20


def _resident(process: psutil.Process) -> int:
    """Bytes of a process. On Linux, pages that several processes share are divided among them."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:  # it just ended, or belongs to another user
        return 0
    return getattr(memory, 'pss', memory.rss)


def duration(seconds: float) -> str:
    """3661 -> '1 h 1 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, 'd'), (hours, 'h'), (minutes, 'min'), (seconds, 's')]
    first = next((i for i, (number, _) in enumerate(units) if number), 3)
    return ' '.join(f'{number} {unit}' for number, unit in units[first:first + 2])


def loader_advice(waiting: float, workers: int, cpus: int, processes: int) -> str:
    """Warning for a run that its data loader limits."""
    advice = 'Pack the images into shards of a smaller size (pack), or measure the loader (benchmark loader).'
    if cpus // processes > workers:
        advice = (f'Raise train_dataloader.num_workers (now {workers}, with {cpus} CPUs for {processes} processes). '
                  + advice)
    return f'the data loader limits this run: {waiting:.0%} of the time is spent waiting for images. {advice}'
