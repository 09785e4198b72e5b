"""Hook that changes the mask ratio during training."""
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class MaskRatioHook(Hook):
    """Changes the mask ratio of a MAE linearly from `start` to `end` over all iterations.

    The ratio is a function of the iteration, so that a resumed run continues with the same ratio. The number of visible
    patches changes with the ratio, and a compiled model is compiled once more, for all numbers. The MAE paper uses a
    constant ratio of 0.75. A decreasing ratio is from Yang et al., ACL 2023 (language models). With an increasing
    ratio, the task is easier at the start.

    Args:
        start, end: ratios of the first and the last iteration, in (0, 1).

    Raises:
        ValueError: a ratio is out of range.
    """

    def __init__(self, *, start: float, end: float) -> None:
        if not (0 < start < 1 and 0 < end < 1):
            raise ValueError(f'mask ratios start={start} and end={end}: both must be in (0, 1)')
        self.start, self.end = start, end

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Sets the ratio of this iteration."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.mae.mask_ratio = self.ratio(runner.iter, runner.max_iters)

    def ratio(self, iteration: int, iterations: int) -> float:
        """Ratio of an iteration, counted from 0, out of `iterations`."""
        return self.start + (self.end - self.start) * iteration / max(iterations - 1, 1)
