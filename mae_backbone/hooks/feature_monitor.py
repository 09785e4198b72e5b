"""What the encoder makes of chosen images while it is pretrained: over all processes, without a trace in the run."""
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mae_backbone.evaluation.knn import gather


class Features(NamedTuple):
    """Of N images, none of their patches hidden; on the CPU, in float32."""

    mean: Tensor              # (N, D) mean of the patch tokens
    class_token: Tensor       # (N, D)
    spread: Tensor            # (N,) how far the patch tokens of an image differ, see `token_spread`
    labels: Tensor | None     # (N,) where the images have them


class MeasuringHook(Hook):
    """A hook that measures every now and then: at the start of a run, after every interval, and at its end.

    Args:
        interval: epochs between two measurements.
        by_epoch: False counts the interval in iterations.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 10, by_epoch: bool = True) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval}, wanted 1 or more {"epochs" if by_epoch else "iterations"}')
        self.interval, self.by_epoch = interval, by_epoch

    def measure(self, runner: Runner, at: int) -> None:
        """Measures after `at` iterations of the run."""
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """A run that goes on from a checkpoint has its start behind it."""
        if runner.iter == 0:
            self.measure(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            self.measure(runner, runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)):
            self.measure(runner, runner.iter + 1)


def extract(runner: Runner, dataset: Dataset, indices: Sequence[int], *, batch_size: int = 64,
            workers: int = 0) -> Features:
    """Features of these images of a data set, in their order; every process does its share and gets them all.

    Args:
        dataset: its items are dict(inputs=uint8 (C, H, W)), with a class in data_samples where they have one. What they
            draw from torch's generator is the same in every call.
    """
    with without_a_trace(runner):
        parts = list(_batches(runner, dataset, indices, batch_size, workers))
    mean, class_token, spread = (gather(torch.cat([part[i] for part in parts]), len(indices)).cpu() for i in range(3))
    labels = [label for *_, labels in parts for label in labels]
    known = all(label is not None for label in labels)
    return Features(mean, class_token, spread, gather(torch.tensor(labels), len(indices)) if known else None)


@contextmanager
def without_a_trace(runner: Runner) -> Iterator[None]:
    """The model in evaluation mode, without gradients or compilation, the same random numbers after as before."""
    was_training = runner.model.training
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    # Where nothing is compiled, the compiler is not even imported, which takes seconds.
    eager = torch.compiler.set_stance('force_eager') if 'torch._dynamo' in sys.modules else nullcontext()
    with torch.random.fork_rng(devices=devices), torch.no_grad(), eager:
        torch.manual_seed(0)
        runner.model.eval()
        try:
            yield
        finally:
            runner.model.train(was_training)


def _batches(runner: Runner, dataset: Dataset, indices: Sequence[int], batch_size: int,
             workers: int) -> Iterator[tuple[Tensor, Tensor, Tensor, list[int | None]]]:
    """Mean and class token (B, D), spread (B,), labels of this process's share, batch by batch."""
    rank, processes = get_dist_info()
    share = len(indices) // processes + (len(indices) % processes > 0)  # as many for each: all call the model together
    own = [indices[i % len(indices)] for i in range(rank, share * processes, processes)]
    # With a generator of its own: a DataLoader draws the seed of its workers from torch's.
    loader = DataLoader(dataset, batch_size=batch_size, sampler=own, num_workers=workers, collate_fn=pseudo_collate,
                        generator=torch.Generator().manual_seed(0))
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    for batch in loader:
        inputs = model.data_preprocessor({'inputs': batch['inputs']}, False)['inputs']
        tokens = runner.model(inputs, mode='tokens').float()
        yield (tokens[:, 1:].mean(dim=1), tokens[:, 0], token_spread(tokens[:, 1:]),
               list(batch.get('data_samples', [None] * len(inputs))))


def token_spread(tokens: Tensor) -> Tensor:
    """tokens (B, L, D) of the patches -> (B,) in 0..1: 0 where all of an image are alike, near 1 where none are.

    That is the root of the share of their energy that lies around their mean.
    """
    around = tokens - tokens.mean(dim=1, keepdim=True)
    return (around.square().sum(dim=(1, 2)) / tokens.square().sum(dim=(1, 2)).clamp(min=1e-12)).sqrt()


def spread_out(total: int, count: int) -> list[int]:
    """`count` of the indices 0..total - 1, at even distances; all where there are not so many."""
    count = min(count, total)
    return [i * total // count for i in range(count)]
