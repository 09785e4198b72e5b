"""Batches whose augmentation is a function of seed, iteration and position, for any map-style data set.

Without this module, a worker draws the random numbers of all its items from one stream, so that an item depends on the
items that the worker loaded before. A resumed run cannot restore that state. Here every item gets its own seed: the
result does not depend on the number of workers, and a run can start at any iteration without loading the data before.
"""
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from mae_backbone.data.counter_rng import hashed
from mae_backbone.data.sampler import Draw, PretrainBatchSampler


def seed_everything(seed: int) -> None:
    """Seeds the random generators of Python, NumPy and torch (CPU) of this process; `seed` in 0..2**63 - 1."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


class SeededItems:
    """`__getitems__` of a data set: loads each draw of a batch with its own seed.

    Transforms that keep items of earlier calls (mmdet's CachedMosaic and CachedMixUp) still depend on the past.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, draws: Sequence[Draw] | Sequence[int]) -> list:
        items = []
        for draw in draws:
            if isinstance(draw, Draw):
                seed_everything(draw.seed)
                items.append(self.dataset[draw.index])
            else:
                items.append(self.dataset[draw])
        return items


class SeededBatches(Sampler[list]):
    """Batches of another batch sampler, with a seed for each item.

    Args:
        batches: yields lists of indices.
        seed: random seed of the run, equal in all processes.
        rank: rank of this process.

    Attributes:
        number: iteration of the next batch, over all passes.
        skip: batches of the next pass to leave out.
        draws: False to yield plain indices without seeds.
    """

    def __init__(self, batches: Any, *, seed: int, rank: int = 0) -> None:
        self.batches, self.seed, self.rank = batches, seed, rank
        self.number = self.skip = 0
        self.draws = True

    @property
    def sampler(self) -> Any:
        """The sampler of the inner batch sampler. Hooks may call its `set_epoch`."""
        return self.batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list]:
        skip, self.skip = self.skip, 0
        for position, batch in enumerate(self.batches):
            if position < skip:
                continue
            number, self.number = self.number, self.number + 1
            if not self.draws or isinstance(batch[0], Draw):
                yield batch
                continue
            seeds = hashed(self.seed, number, self.rank, np.arange(len(batch))) >> np.uint64(1)
            yield [Draw(int(index), seed) for index, seed in zip(batch, seeds.tolist(), strict=True)]


def make_seeded(loader: DataLoader, *, seed: int, rank: int = 0) -> SeededBatches:
    """Makes a DataLoader load its items with seeds; returns the batch sampler that controls it.

    Items of a data set that takes no attributes, such as a list, are loaded without seeds.

    Raises:
        ValueError: the loader has an iterable data set or no batches.
    """
    if loader.batch_sampler is None or not hasattr(loader.dataset, '__getitem__'):
        raise ValueError(f'train_dataloader cannot resume: its {type(loader.dataset).__name__} has no indices. Use a '
                         'map-style data set with a batch_size')
    batches = SeededBatches(loader.batch_sampler, seed=seed, rank=rank)
    # torch refuses to set this attribute of a DataLoader, as a running iterator would ignore it. None is running yet.
    loader.__dict__['batch_sampler'] = batches
    if not isinstance(batches.batches, PretrainBatchSampler):
        try:
            loader.dataset.__getitems__ = SeededItems(loader.dataset)  # type: ignore[attr-defined]  # torch calls it
        except AttributeError:
            batches.draws = False
    return batches
