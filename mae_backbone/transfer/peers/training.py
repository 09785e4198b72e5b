"""Training loop of a peer: trains for given minutes of CPU time, in which validations are not counted."""
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor

from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.utils.cpu import cpu_has_bfloat16

_Batch = TypeVar('_Batch')
_WARMUP_START = 1e-3  # first factor of a linear warm-up, as in torchvision's references/detection/engine.py


class Learner(ABC, Generic[_Batch]):
    """A model in training: its batches, its loss, and its validation.

    Attributes:
        optimizer: optimizer of the model.
        num_validations: number of validations, at equal distances in time. The last one is at the end of the training.
        warmup: fraction of the minutes in which the learning rate rises linearly.
    """

    optimizer: torch.optim.Optimizer
    num_validations = 3
    warmup = 0.0

    @abstractmethod
    def batches(self) -> Iterator[_Batch]:
        """Yields batches without end."""

    @abstractmethod
    def loss(self, batch: _Batch) -> Tensor:
        """Returns the loss () of a batch, with the model in training mode."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Returns the metrics on all validation images, in percent by name in the table."""


def seed_everything(seed: int) -> None:
    """Seeds the random generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def training_clock() -> Callable[[], float]:
    """Returns the clock of peers, in seconds: CPU time of this process, or wall-clock time with a GPU."""
    return time.perf_counter if torch.cuda.is_available() else time.process_time


def train_for_minutes(learner: Learner[Any], spec: Spec, *, clock: Callable[[], float]) -> dict[str, Any]:
    """Trains until the minutes are used. The learning rate follows a cosine over them.

    Args:
        learner: model to train, with its data.
        spec: spec of the cell, with 'minutes' and optionally 'amp': mixed precision on a GPU, or on a CPU with hardware
            for matrices in bfloat16.
        clock: returns the time in seconds. Validations are not counted.

    Returns:
        Dict with 'values', 'cpu_minutes' ('minutes' with a GPU) and 'curves', as in `CellResult`, and 'steps', the
        number of steps.

    Raises:
        ValueError: the loss is not finite.
    """
    device, optimizer = get_device(), learner.optimizer
    budget, used, steps = 60 * spec['minutes'], 0.0, 0
    curve: list[tuple[int, float, dict[str, float]]] = []
    batches = learner.batches()
    in_bfloat16 = spec.get('amp', False) and (device != 'cpu' or cpu_has_bfloat16())
    peak = [group['lr'] for group in optimizer.param_groups]
    while used < budget:
        start = clock()
        for group, lr in zip(optimizer.param_groups, peak, strict=True):
            group['lr'] = lr * lr_factor(used / budget, learner.warmup)
        batch = next(batches)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=in_bfloat16):
            loss = learner.loss(batch)
        if not torch.isfinite(loss):
            raise ValueError(f'the loss is {loss.item()} in step {steps + 1}: set a smaller lr in the options of the '
                             'task')
        loss.backward()
        optimizer.step()
        steps, used = steps + 1, used + clock() - start
        if used >= budget * (len(curve) + 1) / learner.num_validations:
            metrics = learner.evaluate()
            curve.append((steps, round(used / 60, 4), metrics))
            text = ', '.join(f'{name} {value:.2f}' for name, value in metrics.items())
            print(f'step {steps}, {used / 60:.2f} of {spec["minutes"]:g} minutes, {text}', flush=True)
    unit = 'minutes' if torch.cuda.is_available() else 'cpu_minutes'
    values = curve[-1][2]
    return {'values': values, unit: round(used / 60, 4), 'steps': steps, 'curves': {
        name: [[step, minutes, metrics[name]] for step, minutes, metrics in curve if name in metrics]
        for name in values}}


def lr_factor(progress: float, warmup: float = 0.0) -> float:
    """Factor of the learning rate after a fraction `progress` of the training: a cosine, times a linear warm-up."""
    rise = min(1.0, _WARMUP_START + (1 - _WARMUP_START) * progress / warmup) if warmup else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * progress))
