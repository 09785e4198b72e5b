"""Extracts features of fixed images during pretraining, on all processes, without changing the run."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.evaluation.feature_extractor import extract_features
from mae_backbone.evaluation.knn import gather


class Features(NamedTuple):
    """Features of N images without masking, on the CPU in float32."""

    mean: Tensor              # (N, D) mean of the patch tokens
    class_token: Tensor       # (N, D)
    spread: Tensor            # (N,) how much the patch tokens of an image differ, see `token_spread`
    labels: Tensor | None     # (N,) classes, None for images without


class MeasuringHook(Hook):
    """Base of hooks that measure at intervals: at the start of a run, after every interval, and at the end.

    Args:
        interval: epochs between two measurements.
        by_epoch: False to count the interval in iterations.

    Raises:
        ValueError: the interval is below 1.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 10, by_epoch: bool = True) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval}, expected at least 1 {"epochs" if by_epoch else "iterations"}')
        self.interval, self.by_epoch = interval, by_epoch

    def measure(self, runner: Runner, at: int) -> None:
        """Measures after `at` iterations of the run."""
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Measures at the start, but not in a resumed run."""
        if runner.iter == 0:
            self.measure(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measures if the interval or training ends with this epoch."""
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            self.measure(runner, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Measures if the interval or training ends with this iteration."""
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)):
            self.measure(runner, runner.iter + 1)


def extract(runner: Runner, dataset: Dataset, indices: Sequence[int], *, batch_size: int = 64,
            workers: int = 0) -> Features:
    """Features of some images of a data set, in their order. Each process computes a part and gets all of them.

    Args:
        dataset: items are dict(inputs=uint8 (C, H, W)), with the class in `data_samples` if there is one. Random
            transforms that use torch's generator give the same result in every call.
        indices: items to take.
        batch_size: images in a forward pass.
        workers: processes that load the images.
    """
    rank, world_size = get_dist_info()
    count = -(-len(indices) // world_size)  # the same in every process, as all call the model together
    own = [indices[i % len(indices)] for i in range(rank, count * world_size, world_size)]
    with side_effect_free(runner):
        batches = list(extract_features(runner.model, dataset, own, poolings=('mean', 'class', 'spread'),
                                        batch_size=batch_size, workers=workers))
    mean, class_token, spread = (gather(torch.cat([features[name] for features, _ in batches]), len(indices)).cpu()
                                 for name in ('mean', 'class', 'spread'))
    labels = [batch for _, batch in batches if batch is not None]
    has_labels = len(labels) == len(batches)
    return Features(mean, class_token, spread, gather(torch.cat(labels), len(indices)) if has_labels else None)


@contextmanager
def side_effect_free(runner: Runner) -> Iterator[None]:
    """Context with the model in evaluation mode, without gradients and so without compiled blocks.

    Restores random state and mode.
    """
    was_training = runner.model.training
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(0)
        runner.model.eval()
        try:
            yield
        finally:
            runner.model.train(was_training)


def spread_out(total: int, count: int) -> list[int]:
    """`count` evenly spaced indices of 0..total - 1, or all of them if there are fewer."""
    count = min(count, total)
    return [i * total // count for i in range(count)]
