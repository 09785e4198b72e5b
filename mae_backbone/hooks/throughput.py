"""How fast a run is, what it holds in memory, and whether it waits for its images."""
import datetime
import os
import time

import psutil
import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from mae_backbone.hooks.device_scalars import log_interval
from mae_backbone.hooks.scalar_history import note
from mae_backbone.registry import HOOKS

_START = 20  # steps until the first figures: those of warm-up, compilation and filling queues lie before


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Measures images/s, memory and the share of the time that is spent waiting for images, at every line of the log.

    They go into the line as `images_per_s`, `waiting` and, on a CPU, `memory`, and are noted as curves. After the first
    20 steps the expected end of the run is said; and once it starts to wait, that the loader is what limits.

    Args:
        waiting: share of the time, in (0, 1), above which the loader is called what limits.

    Raises:
        ValueError: a share out of its range.
    """

    # After DeviceLogHook (40), which waits for the device, so that the time of the steps is whole; before LoggerHook.
    priority = 'NORMAL'

    def __init__(self, *, waiting: float = 0.2) -> None:
        if not 0 < waiting < 1:
            raise ValueError(f'waiting={waiting}, wanted a share of the time between 0 and 1, such as .2')
        self.threshold = waiting
        self.interval = 10
        self.limited = False  # whether the last line of advice still holds
        self.steps_run = 0
        self.clear()

    def clear(self) -> None:
        """Starts a new window."""
        self.images, self.steps, self.waited, self.busy = 0, 0, 0.0, 0.0
        self.left_at = time.perf_counter()

    def before_train(self, runner: Runner) -> None:
        """Starts the clocks; a hook that runs last says when the loop goes back to the loader."""
        self.interval = log_interval(runner, self.interval)
        if not any(isinstance(hook, _LastHook) for hook in runner.hooks):
            runner.register_hook(_LastHook(self), priority=100)
        self.steps_run = 0

    def before_train_epoch(self, runner: Runner) -> None:
        """Validation and pictures between two epochs are no steps."""
        self.clear()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """The images are there."""
        self.came_at = time.perf_counter()
        self.waited += self.came_at - self.left_at

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Counts the step; measures where a line of the log is due."""
        self.images += count_images(data_batch)
        self.steps += 1
        self.steps_run += 1
        self.busy += time.perf_counter() - self.came_at
        short_epoch = (isinstance(runner.train_loop, EpochBasedTrainLoop) and batch_idx < self.interval
                       and self.end_of_epoch(runner.train_dataloader, batch_idx))
        if self.every_n_inner_iters(batch_idx, self.interval) or short_epoch:
            self.measure(runner)
        if self.steps_run == _START:
            self.tell_the_end(runner)

    def measure(self, runner: Runner) -> None:
        """The figures of the window since the last line, over all processes."""
        total = max(self.waited + self.busy, 1e-9)
        # All processes take every step together: the slowest is what all wait for.
        sums = torch.tensor([self.images, self.waited / total])
        all_reduce(sums)
        numbers = {'images_per_s': float(sums[0]) / total, 'waiting': float(sums[1]) / get_world_size(),
                   'memory': memory_in_use()}
        for name, number in numbers.items():
            runner.message_hub.update_scalar(f'train/{name}', number)
        note(runner, numbers, at=runner.iter + 1)
        if self.steps_run > self.interval:  # in the first window the loader fills its queues
            self.advise(runner, numbers['waiting'])
        self.clear()

    def advise(self, runner: Runner, waiting: float) -> None:
        """Says once that the loader limits, and once more where it does so again after it did not."""
        if waiting > self.threshold and not self.limited:
            runner.logger.warning(loader_advice(waiting, runner.train_dataloader.num_workers, os.cpu_count() or 1,
                                                get_world_size()))
        # Half the threshold: a run that lies at it would be advised again and again.
        self.limited = waiting > self.threshold if not self.limited else waiting > self.threshold / 2

    def tell_the_end(self, runner: Runner) -> None:
        """How long it will take, from the mean step without the first one."""
        seconds = runner.message_hub.get_scalar('train/time').data[0][-_START + 1:].mean()
        left = seconds * (runner.max_iters - runner.iter - 1)
        end = datetime.datetime.now() + datetime.timedelta(seconds=left)
        runner.logger.info(f'measured over {_START - 1} steps: {seconds:.3g} s a step, {duration(left)} to go, '
                           f'until {end:%a %d %b %H:%M}; memory {memory_in_use():,.0f} MB')


class _LastHook(Hook):
    """Notes when all other hooks of an iteration are done: from then on the loop waits for images."""

    def __init__(self, owner: ThroughputHook) -> None:
        self.owner = owner

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        self.owner.left_at = time.perf_counter()


def count_images(batch: dict) -> int:
    """Images of a batch, without those that only fill it up (their weight is 0)."""
    weights = batch.get('weights')
    return int((weights > 0).sum()) if isinstance(weights, Tensor) else len(batch['inputs'])


def memory_in_use() -> float:
    """MB: the peak of all tensors on a GPU, or else what this process and the ones below it hold now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(map(_resident, processes)) / 2**20


def _resident(process: psutil.Process) -> int:
    """Bytes; pages that several processes share are divided among them where the system can tell (Linux)."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:  # it just ended, or belongs to someone else
        return 0
    return getattr(memory, 'pss', memory.rss)


def duration(seconds: float) -> str:
    """3661 -> '1 h 1 min'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, 'd'), (hours, 'h'), (minutes, 'min'), (seconds, 's')]
    first = next((i for i, (number, _) in enumerate(parts) if number), 3)
    return ' '.join(f'{number} {unit}' for number, unit in parts[first:first + 2])


def loader_advice(waiting: float, workers: int, cpus: int, processes: int) -> str:
    """What to do where the loader limits."""
    free = cpus // processes - workers
    what = [f'raise train_dataloader.num_workers ({workers} now, {cpus} cores for {processes} processes)'] * (free > 0)
    what += ['pack the images into shards of a smaller size (tools/pack.py)',
             'measure the loader alone (tools/benchmark.py loader)']
    return f'the loader limits this run: {waiting:.0%} of the time is spent waiting for images. {_or(what)}.'


def _or(parts: list[str]) -> str:
    text = '; or '.join(parts)
    return text[0].upper() + text[1:]
