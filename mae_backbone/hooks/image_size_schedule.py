"""Hook that changes the size of the crops during pretraining."""
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mae_backbone.core.patches import grid_size
from mae_backbone.data.files import checked_size
from mae_backbone.data.sampler import PretrainBatchSampler
from mae_backbone.registry import HOOKS

Stage = tuple[float, tuple[int, int]]  # fraction of the training at which it starts, (height, width) in pixels


@HOOKS.register_module()
class ImageSizeHook(Hook):
    """Trains on small images first (DailyMAE, Wu et al., 2024; progressive resizing, Howard, 2018).

    A stage starts at the epoch that is nearest to its fraction of the training, so that the setting does not depend on
    the length. The size is a function of the epoch and part of the draws of the batch sampler. Therefore persistent
    workers use it, and a resumed run continues with the same size as without the interruption. A compiled model is
    compiled once more, for all sizes.

    Args:
        stages: pairs (fraction of the training at which the stage starts, pixels), where pixels is a side or
            (height, width): [(0, 160), (1 / 3, 192), (2 / 3, 224)].

    Raises:
        ValueError: the fractions do not increase from 0, or a size does not fit the patches of the model.
    """

    def __init__(self, stages: Sequence[tuple[float, int | Sequence[int]]]) -> None:
        self.stages = checked_stages(stages)

    def before_train(self, runner: Runner) -> None:
        """Sets the sizes of all epochs."""
        model, batches = runner.model.module if is_model_wrapper(runner.model) else runner.model, self.sampler(runner)
        encoder = model.mae.encoder
        for _, size in self.stages:
            grid_size(size, encoder.patch_size)
            if size[0] > encoder.image_size[0] or size[1] > encoder.image_size[1]:
                raise ValueError(f'ImageSizeHook has a stage of {size[0]}x{size[1]} pixels, and image_size of the '
                                 f'model is {encoder.image_size[0]}x{encoder.image_size[1]}: set it, and image_size of '
                                 'the data, to the largest stage')
        batches.image_sizes = by_epoch(self.stages, runner.max_epochs)
        runner.logger.info('crops of %s', ', then '.join(
            f'{height}x{width} from epoch {epoch + 1}' for epoch, (height, width) in batches.image_sizes))

    def sampler(self, runner: Runner) -> PretrainBatchSampler:
        """Returns the batch sampler. Raises ValueError if it does not support sizes, or already has its own sizes."""
        batches = runner.train_dataloader.batch_sampler
        if not isinstance(batches, PretrainBatchSampler) or batches.image_sizes:
            raise ValueError("ImageSizeHook needs train_dataloader.batch_sampler=dict(type='mae_backbone."
                             "PretrainBatchSampler') without image_sizes, which would be a second schedule")
        return batches


def checked_stages(stages: Sequence[tuple[float, int | Sequence[int]]]) -> list[Stage]:
    """Stages with (height, width) each. Raises ValueError if the fractions do not increase from 0."""
    fractions = [stage[0] for stage in stages]
    if (any(len(stage) != 2 for stage in stages) or fractions != sorted({0, *fractions}) or not 0 <= fractions[-1] < 1):
        raise ValueError(f'stages={list(stages)}, expected pairs (fraction of the training, pixels), sorted, from 0 to '
                         'below 1, such as [(0, 160), (0.5, 224)]')
    return [(fraction, checked_size(size)) for fraction, size in stages]


def by_epoch(stages: Sequence[Stage], epochs: int) -> list[tuple[int, tuple[int, int]]]:
    """Stages -> pairs (first epoch, size), at the nearest epoch. Of stages that start at the same one, the last."""
    return sorted({round(fraction * epochs): size for fraction, size in stages}.items())
