"""Whether a pretraining learns at all, seen without a label."""
import logging
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor

from mae_backbone.hooks.feature_monitor import MeasuringHook, extract, spread_out
from mae_backbone.hooks.scalar_history import curve, note, step_curve
from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class HealthHook(MeasuringHook):
    """Effective rank of the features of fixed images (RankMe), and how far the tokens of an image differ.

    Both are noted as the curves `rank` and `spread`; a collapse, a stall and the end of one are said in the log.

    Args:
        interval: epochs between two measurements; also at the start and at the end.
        by_epoch: False counts the interval in iterations.
        images: how many of the training images, evenly drawn. The rank cannot be above their number.
        batch_size: images in a forward pass.
    """

    def __init__(self, *, interval: int = 10, by_epoch: bool = True, images: int = 1024, batch_size: int = 64) -> None:
        super().__init__(interval=interval, by_epoch=by_epoch)
        if images < 2:
            raise ValueError(f'images={images}: the rank of the features of fewer than 2 images says nothing')
        self.number, self.batch_size = images, batch_size

    def measure(self, runner: Runner, at: int) -> None:
        """Measures, logs, and warns where something is newly wrong."""
        start, dataset = time.perf_counter(), runner.train_dataloader.dataset
        indices = spread_out(len(dataset), self.number)
        features = extract(runner, dataset, indices, batch_size=self.batch_size,
                           workers=min(4, runner.train_dataloader.num_workers))
        rank, spread = effective_rank(features.mean), float(features.spread.mean())
        note(runner, {'rank': rank, 'spread': spread}, at=at)
        runner.logger.info(f'health: effective rank {rank:.1f} of at most {min(features.mean.shape)} (RankMe), spread '
                           f'of the tokens within an image {spread:.2f}; {len(indices)} images, '
                           f'{time.perf_counter() - start:.1f} s')
        if at > 0:  # random weights are not ill
            ranks, spreads = (curve(runner.message_hub, name)[1].tolist() for name in ('rank', 'spread'))
            for level, line in verdict(ranks, spreads, self.losses(runner, at)):
                runner.logger.log(level, line)

    @staticmethod
    def losses(runner: Runner, at: int) -> list[float]:
        """Mean loss between the last three measurements, as far as there were any."""
        iterations, losses = step_curve(runner.message_hub, 'loss', at)
        places = np.searchsorted(iterations, curve(runner.message_hub, 'rank')[0][-3:], side='right')
        return [float(losses[start:end].mean()) for start, end in pairwise(places) if end > start]


def effective_rank(features: Tensor) -> float:
    """features (N, D) -> how many directions they fill, 1 to min(N, D).

    RankMe (Garrido et al., ICML 2023, section 3): exp of the entropy of the singular values, taken as shares of their
    sum. It needs no label, and falls to 1 where all features are alike.
    """
    values = torch.linalg.svdvals(features.double().cpu())
    shares = values / values.sum().clamp(min=1e-300) + 1e-7  # epsilon of the paper
    return float(torch.exp(-(shares * shares.log()).sum()))


# Below it the tokens of an image are all alike; the quickstart, which gets past its plateau, has .22 at its lowest.
_ALIKE = 0.1
# The rank of features that hardly differ from image to image.
_COLLAPSED = 2.0


def verdict(ranks: Sequence[float], spreads: Sequence[float], losses: Sequence[float]) -> list[tuple[int, str]]:
    """What the measurements of a run say, the latest last -> levels of the log and lines; nothing where all is well.

    Args:
        ranks, spreads: of all measurements, that of the random weights at the start first.
        losses: mean loss between the last two measurements but one, and the last two.
    """
    rank, spread, lines = ranks[-1], spreads[-1], []
    if rank < _COLLAPSED:
        lines.append((logging.WARNING, f'the features of all images are nearly the same (effective rank {rank:.1f}): '
                      'the encoder has collapsed. Lower the learning rate, or go back to an earlier checkpoint; '
                      'check mean and std of the data preprocessor'))
    elif len(ranks) > 2 and rank < ranks[-2] / 2:
        lines.append((logging.WARNING, f'the effective rank of the features fell from {ranks[-2]:.1f} to {rank:.1f} '
                      'since the last measurement: a collapse may have begun. Look at the gradient norm in '
                      'training.png; lower the learning rate or clip the gradients (optim_wrapper.clip_grad)'))
    if spread < _ALIKE:
        lines.append((logging.WARNING, f'the tokens of an image are all alike (spread {spread:.2f}): the MAE is on its '
                      'first plateau, where it predicts the mean of an image and not yet a patch from its neighbors. '
                      'Runs leave it sooner with more steps at the full learning rate, with smaller crops (fewer '
                      'patches), or with a decoder as wide as the encoder'))
    elif len(spreads) > 2 and spreads[-2] < _ALIKE:
        lines.append((logging.INFO, f'the tokens of an image differ now (spread {spread:.2f}): the first plateau is '
                      'over'))
    if len(losses) == 2 and losses[1] > 1.01 * losses[0]:
        lines.append((logging.WARNING, f'the loss rose from {losses[0]:.4f} to {losses[1]:.4f} since the last '
                      'measurement: the run diverges. Lower the learning rate or clip the gradients '
                      '(optim_wrapper.clip_grad)'))
    return lines
