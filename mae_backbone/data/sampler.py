"""Which images a pretraining step sees: a function of the run's seed, the epoch and the iteration alone."""
from collections.abc import Iterator, Sequence, Sized
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import broadcast, get_dist_info
from torch.utils.data import Sampler

from mae_backbone.data.counter_rng import hashed
from mae_backbone.data.files import checked_size
from mae_backbone.registry import DATA_SAMPLERS


class Draw(NamedTuple):
    """One image of a batch.

    Attributes:
        index: its place in the data set.
        seed: the number, in 0..2**63 - 1, that all chance of this image in this epoch comes from: crop, flip, masking.
        weight: of its loss in the mean over the batch.
        size: (height, width) of its crop in pixels, where that is not the data set's.
    """

    index: int
    seed: int
    weight: float = 1.0
    size: tuple[int, int] | None = None


@DATA_SAMPLERS.register_module()
class PretrainSampler(Sampler[int]):
    """The order of the images in an epoch: every image once, shuffled anew for each.

    Args:
        dataset: what has a length.
        seed: of the run, the same in all processes; None: the one that process 0 gave to torch, which is
            `randomness.seed` of a config.
        shuffle: False for the order of the data set in every epoch.
    """

    def __init__(self, dataset: Sized, *, seed: int | None = None, shuffle: bool = True) -> None:
        self.number, self.shuffle, self.epoch = len(dataset), shuffle, 0
        self.seed = _seed_of_process_0() if seed is None else seed

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """Indices (N,) in the order of the current epoch, of 4 bytes each up to 2**31 images."""
        order = np.arange(self.number, dtype=np.int32 if self.number <= 2**31 else np.int64)
        if self.shuffle:
            # NumPy promises that RandomState, unlike its successor, never changes: a run goes on with a later NumPy.
            seeds = np.random.SeedSequence((self.seed, self.epoch))
            np.random.RandomState(np.random.MT19937(seeds)).shuffle(order)
        return order


@DATA_SAMPLERS.register_module()
class PretrainBatchSampler(Sampler[list[Draw]]):
    """Batches of one process, out of global batches that do not depend on the number of processes.

    Iteration t of an epoch trains on images [t * G, (t + 1) * G) of the epoch's order, where G is the batch of all
    processes together; process r of w takes every w-th of them from the r-th on. The seed of an image depends on the
    run, the epoch and the image alone. Without `drop_last` the last global batch, of g < G images, is filled up: the
    real ones weigh G / g, those that fill up 0, so that the mean of weight * loss over all processes is the mean of
    the loss over the g images.

    Args:
        sampler: the order of the images.
        batch_size: images of one process in a step.
        drop_last: leave the images out that do not fill the last batch, others in each epoch; the paper's way.
        repeats: crops of each image in a batch, decoded once (repeated augmentation, Hoffer et al. 2020, Augment your
            batch): a batch has `batch_size / repeats` different images then, and an epoch `repeats` times the steps,
            so that E epochs compare with E * repeats epochs without.
        image_sizes: sizes of the crops as the training goes on, in pairs (first epoch, pixels), the pixels being a side
            or (height, width): [(0, 160), (300, 192), (600, 224)] (progressive resolution: DailyMAE, Wu et al. 2024;
            FixRes, Touvron et al. 2019). Without any the size is that of the data set. It travels with each draw, so
            that it holds in workers that persist and in resumed runs.
        rank, world_size: of this process and of all; by default those of torch.distributed.

    Raises:
        ValueError: an argument out of its range, or fewer images than one batch with `drop_last`.
    """

    def __init__(self, sampler: PretrainSampler, batch_size: int, *, drop_last: bool = False, repeats: int = 1,
                 image_sizes: Sequence[tuple[int, int | Sequence[int]]] = (), rank: int | None = None,
                 world_size: int | None = None) -> None:
        if not isinstance(sampler, PretrainSampler):
            raise ValueError(f"sampler is a {type(sampler).__name__}: set sampler=dict(type="
                             "'mae_backbone.PretrainSampler') beside this batch_sampler in the config")
        if batch_size < 1 or repeats < 1 or batch_size % repeats:
            raise ValueError(f'batch_size={batch_size} and repeats={repeats}: both must be 1 or more, and batch_size a '
                             'multiple of repeats')
        own_rank, own_world_size = get_dist_info()
        self.rank = own_rank if rank is None else rank
        self.world_size = own_world_size if world_size is None else world_size
        self.sampler, self.batch_size, self.drop_last, self.repeats = sampler, batch_size, drop_last, repeats
        self.image_sizes = _checked_stages(image_sizes)
        self.first = 0  # iteration at which the next pass begins
        if not len(self):
            raise ValueError(f'{len(sampler)} images do not fill one batch of {self.global_batch} (batch_size='
                             f'{batch_size} in each of {self.world_size} processes, repeats={repeats}): lower '
                             'train_dataloader.batch_size, or set drop_last=False in its batch_sampler')

    @property
    def global_batch(self) -> int:
        """Crops in a step of all processes together."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Steps of an epoch."""
        images = self.global_batch // self.repeats
        return len(self.sampler) // images if self.drop_last else -(-len(self.sampler) // images)

    def set_epoch(self, epoch: int) -> None:
        """Takes effect when the next pass begins."""
        self.sampler.set_epoch(epoch)

    def start_at(self, iteration: int) -> None:
        """The next pass, and that one alone, begins at this iteration of its epoch; nothing before it is read."""
        if not 0 <= iteration <= len(self):
            raise ValueError(f'iteration {iteration} of an epoch that has {len(self)}: the run was saved with other '
                             'data, another batch size or another number of processes')
        self.first = iteration

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the crops in the current epoch, None where it is the data set's."""
        return next((size for first, size in reversed(self.image_sizes) if first <= self.sampler.epoch), None)

    def __iter__(self) -> Iterator[list[Draw]]:
        # A generator, so that a pass begins with its first batch: a DataLoader with workers makes one iterator that it
        # throws away before the one that it uses.
        first, self.first = self.first, 0
        order, key, size = self.sampler.order(), (self.sampler.seed, self.sampler.epoch), self.image_size
        for iteration in range(first, len(self)):
            yield self._batch(order, key, size, iteration)

    def _batch(self, order: np.ndarray, key: tuple[int, int], size: tuple[int, int] | None,
               iteration: int) -> list[Draw]:
        images = self.global_batch // self.repeats
        places = np.arange(iteration * images, (iteration + 1) * images)
        real = min(images, len(order) - places[0])
        weights = np.where(places < len(order), images / real, 0.0)[self.rank::self.world_size]
        indices = order[places[self.rank::self.world_size] % len(order)].astype(np.int64)
        indices, weights = indices.repeat(self.repeats), weights.repeat(self.repeats)
        crops = np.arange(len(indices)) % self.repeats
        seeds = hashed(*key, indices, crops) >> np.uint64(1)
        return [Draw(*draw, size) for draw in zip(indices.tolist(), seeds.tolist(), weights.tolist(), strict=True)]


def _checked_stages(stages: Sequence[tuple[int, int | Sequence[int]]]) -> list[tuple[int, tuple[int, int]]]:
    if not stages:
        return []
    epochs = [stage[0] for stage in stages]
    if any(len(stage) != 2 for stage in stages) or epochs != sorted({0, *epochs}):
        raise ValueError(f'image_sizes={list(stages)}, wanted pairs of a first epoch and pixels, in order and from '
                         'epoch 0 on, such as [(0, 160), (300, 224)]')
    return [(epoch, checked_size(size)) for epoch, size in stages]


def _seed_of_process_0() -> int:
    seed = torch.tensor(torch.initial_seed() % 2**63)
    broadcast(seed)
    return int(seed)
