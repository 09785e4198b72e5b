"""Hook that detects without labels that a pretraining does not learn."""
import logging
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor

from mae_backbone.hooks.feature_monitor import MeasuringHook, extract, spread_out
from mae_backbone.hooks.scalar_history import history, record, step_history
from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class HealthHook(MeasuringHook):
    """Measures the effective rank of the features (RankMe) and the spread of the tokens within an image.

    Both are recorded as `rank` and `spread`. After 200 iterations, and with 16 images or more, warnings about a
    collapse or a plateau are logged, and a message when a plateau ends.

    Args:
        interval: epochs between two measurements; also at the start and at the end.
        by_epoch: False to count the interval in iterations.
        images: number of training images to use, evenly spaced. The rank cannot exceed it.
        batch_size: images in a forward pass.
    """

    def __init__(self, *, interval: int = 10, by_epoch: bool = True, images: int = 1024, batch_size: int = 64) -> None:
        super().__init__(interval=interval, by_epoch=by_epoch)
        if images < 2:
            raise ValueError(f'images={images}, expected at least 2 to compute a rank')
        self.number, self.batch_size = images, batch_size

    def measure(self, runner: Runner, at: int) -> None:
        """Measures, logs, and warns of new problems."""
        start, dataset = time.perf_counter(), runner.train_dataloader.dataset
        indices = spread_out(len(dataset), self.number)
        features = extract(runner, dataset, indices, batch_size=self.batch_size,
                           workers=min(4, runner.train_dataloader.num_workers))
        rank, spread = effective_rank(features.mean), float(features.spread.mean())
        record(runner, {'rank': rank, 'spread': spread}, at=at)
        runner.logger.info(f'health: effective rank {rank:.1f} of at most {min(features.mean.shape)} (RankMe), spread '
                           f'of the tokens within an image {spread:.2f}; {len(indices)} images, '
                           f'{time.perf_counter() - start:.1f} s')
        # Random weights, and weights that hardly differ from them, would cause false warnings.
        if at >= _JUDGED_AFTER and len(indices) >= _JUDGED_IMAGES:
            ranks, spreads = (history(runner.message_hub, name)[1].tolist() for name in ('rank', 'spread'))
            for level, line in verdict(ranks, spreads, self.losses(runner, at)):
                runner.logger.log(level, line)

    @staticmethod
    def losses(runner: Runner, at: int) -> list[float]:
        """Mean losses between the last three measurements, as far as they exist."""
        iterations, losses = step_history(runner.message_hub, 'loss', at)
        places = np.searchsorted(iterations, history(runner.message_hub, 'rank')[0][-3:], side='right')
        return [float(losses[start:end].mean()) for start, end in pairwise(places) if end > start]


def effective_rank(features: Tensor) -> float:
    """features (N, D) -> effective number of dimensions that they span, in 1..min(N, D).

    RankMe (Garrido et al., ICML 2023, section 3): exponential of the entropy of the singular values, normalized to sum
    1. It needs no labels. It is 1 if all features are equal.
    """
    values = torch.linalg.svdvals(features.double().cpu())
    fractions = values / values.sum().clamp(min=1e-300) + 1e-7  # epsilon of the paper
    return float(torch.exp(-(fractions * fractions.log()).sum()))


# Spread below which the tokens of an image are almost equal. In the quickstart, which does not stay on its plateau, the
# smallest spread is 0.22.
_ALIKE = 0.1
# Rank below which the features hardly differ between images. The rank of a few images is always low.
_COLLAPSED = 2.0
# Smallest numbers of iterations and images for a diagnosis. During the warm-up, each MAE is on its first plateau. The
# warm-up of the small configs has 60 to 100 iterations.
_JUDGED_AFTER, _JUDGED_IMAGES = 200, 16


def verdict(ranks: Sequence[float], spreads: Sequence[float], losses: Sequence[float]) -> list[tuple[int, str]]:
    """Diagnoses a run from its measurements, the latest last -> log levels and lines; empty for a healthy run.

    Args:
        ranks, spreads: values of all measurements. The first one belongs to the random weights at the start.
        losses: mean loss of the interval before the last one, and of the last one.
    """
    rank, spread, lines = ranks[-1], spreads[-1], []
    if rank < _COLLAPSED:
        lines.append((logging.WARNING, f'the features of all images are nearly equal (effective rank {rank:.1f}): the '
                      'encoder has collapsed. Lower the learning rate, or return to an earlier checkpoint; check mean '
                      'and std of the data preprocessor'))
    elif len(ranks) > 2 and rank < ranks[-2] / 2:
        lines.append((logging.WARNING, f'the effective rank of the features fell from {ranks[-2]:.1f} to {rank:.1f} '
                      'since the last measurement: a collapse may have begun. Look at the gradient norm in '
                      'training.png; lower the learning rate or clip the gradients (optim_wrapper.clip_grad)'))
    if spread < _ALIKE:
        lines.append((logging.WARNING, f'the tokens of an image are nearly equal (spread {spread:.2f}): the MAE is on '
                      'its first plateau, where it predicts the mean of an image and does not yet predict a patch from '
                      'its neighbors. Runs leave the plateau sooner with more steps at the full learning rate, with '
                      'smaller crops (fewer patches), or with a decoder as wide as the encoder'))
    elif len(spreads) > 2 and spreads[-2] < _ALIKE:
        lines.append((logging.INFO, f'the tokens of an image differ now (spread {spread:.2f}): the MAE has left its '
                      'first plateau'))
    if len(losses) == 2 and losses[1] > 1.01 * losses[0]:
        lines.append((logging.WARNING, f'the loss rose from {losses[0]:.4f} to {losses[1]:.4f} since the last '
                      'measurement: the run diverges. Lower the learning rate or clip the gradients '
                      '(optim_wrapper.clip_grad)'))
    return lines
