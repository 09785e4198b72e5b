"""Linear warm-up of the learning rate, exact in every iteration."""
import math
from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import OptimizerType

from mae_backbone.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class LinearWarmup(_ParamScheduler):
    """Multiplies the learning rate in iteration i by `start_factor + (1 - start_factor) * i / end`, at most by 1.

    The public MAE code and detectron2 warm up like this. MMEngine's `LinearLR` divides by `end - 1`, so that it reaches
    the full rate one iteration early, and rounds `end` to an integer. Place it before the schedulers that follow the
    warm-up: one that begins at `end` then starts from the full rate.

    Args:
        optimizer: optimizer or optimizer wrapper, passed by the Runner.
        start_factor: factor in iteration 0, above 0 because MMEngine's schedulers multiply the previous rate.
        end: length of the warm-up in iterations, or in epochs with `convert_to_iter_based=True`. May be fractional.
        cosine_length: length of a cosine to 0 that begins in iteration 0, too. The rate is then linear up to the value
            that the cosine has at `end`, as in detectron2's WarmupParamScheduler (solver/lr_scheduler.py), instead of
            the product of both.
        last_step: index of the last step, to continue a schedule.
        by_epoch: must be False after the conversion. A warm-up that changes once per epoch is not supported.
        verbose: whether to print every new rate.

    Raises:
        ValueError: `start_factor`, `end` or `cosine_length` is out of range, or `by_epoch` is set without
            `convert_to_iter_based`.
    """

    def __init__(self, optimizer: OptimizerType, *, start_factor: float, end: float,
                 cosine_length: float | None = None, last_step: int = -1, by_epoch: bool = False,
                 verbose: bool = False) -> None:
        if by_epoch:
            raise ValueError('LinearWarmup changes the rate in every iteration: set by_epoch=False, or '
                             'convert_to_iter_based=True to give its length in epochs')
        if not 0 < start_factor <= 1:
            raise ValueError(f'start_factor of LinearWarmup is {start_factor}, it must be above 0 and at most 1: '
                             'for a warm-up from 0 take 1e-9')
        if end <= 0:
            raise ValueError(f'end of LinearWarmup is {end}, it must be above 0: remove the warm-up to have none')
        if cosine_length is not None and cosine_length <= end:
            raise ValueError(f'cosine_length of LinearWarmup is {cosine_length}, it must be above its end, {end}: give '
                             'the length of the training')
        self.start_factor, self.length, self.cosine_length = start_factor, end, cosine_length
        # The first iteration at the full rate is the last one that is scheduled.
        super().__init__(optimizer, 'lr', begin=0, end=math.ceil(end) + 1, last_step=last_step, by_epoch=False,
                         verbose=verbose)

    @classmethod
    def build_iter_from_epoch(cls, *args: Any, end: float, epoch_length: int, cosine_length: float | None = None,
                              by_epoch: bool = True, **kwargs: Any) -> 'LinearWarmup':
        """Builds the warm-up from lengths in epochs of `epoch_length` iterations. MMEngine calls it."""
        cosine_length = None if cosine_length is None else cosine_length * epoch_length
        return cls(*args, end=end * epoch_length, cosine_length=cosine_length, **kwargs)

    def factor(self, step: int) -> float:
        """The factor of the learning rate in an iteration."""
        if step >= self.length:
            return 1.0
        peak = self._cosine(self.length)
        return (self.start_factor + (peak - self.start_factor) * step / self.length) / self._cosine(step)

    def _cosine(self, step: float) -> float:
        """Factor of the cosine that the warm-up is combined with, 1 without one."""
        return 1.0 if self.cosine_length is None else (1 + math.cos(math.pi * step / self.cosine_length)) / 2

    def _get_value(self) -> list[float]:
        previous = self.factor(self.last_step - 1) if self.last_step else 1.0
        change = self.factor(self.last_step) / previous
        return [group[self.param_name] * change for group in self.optimizer.param_groups]
