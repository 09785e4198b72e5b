"""How much is hidden, as the training goes on."""
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class MaskRatioHook(Hook):
    """Moves the mask ratio of a MAE from one value to another over the training, in equal steps an iteration.

    A pure function of the iteration: a resumed run goes on where it was. The number of visible patches changes with the
    ratio, and a compiled model is compiled anew for some of them. The paper keeps .75; masking ratios that decay are
    from Yang et al., ACL 2023 (language), and ones that grow make an easy start.

    Args:
        start, end: the ratios of the first and the last iteration, in (0, 1).
    """

    def __init__(self, *, start: float, end: float) -> None:
        if not (0 < start < 1 and 0 < end < 1):
            raise ValueError(f'start={start} and end={end} of the mask ratio must be in (0, 1)')
        self.start, self.end = start, end

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Sets the ratio of this iteration."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.mae.mask_ratio = self.ratio(runner.iter, runner.max_iters)

    def ratio(self, iteration: int, iterations: int) -> float:
        """The ratio of an iteration, counted from 0, of so many."""
        return self.start + (self.end - self.start) * iteration / max(iterations - 1, 1)
