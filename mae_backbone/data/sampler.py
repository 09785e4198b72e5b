"""Samplers of pretraining: the images of a step are a function of seed, epoch and iteration."""
import logging
from collections.abc import Iterator, Sequence, Sized
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import broadcast, get_dist_info
from torch.utils.data import Sampler

from mae_backbone.data.counter_rng import hashed
from mae_backbone.data.files import checked_size
from mae_backbone.registry import DATA_SAMPLERS

_LOG = logging.getLogger(__name__)


class Draw(NamedTuple):
    """One image of a batch.

    Attributes:
        index: index in the data set.
        seed: random seed, in 0..2**63 - 1, of crop, flip and mask of this image in this epoch.
        weight: weight of the loss in the mean over the batch.
        size: (height, width) of the crop in pixels, None for the size of the data set.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which is not needed
    seed: int
    weight: float = 1.0
    size: tuple[int, int] | None = None


@DATA_SAMPLERS.register_module()
class PretrainSampler(Sampler[int]):
    """Order of the images in an epoch: every image once, in a different order in each epoch.

    Args:
        dataset: any object with a length.
        seed: random seed, equal in all processes. None takes the seed of torch in process 0, which is
            `randomness.seed` of the config.
        shuffle: False keeps the order of the data set in every epoch.
    """

    def __init__(self, dataset: Sized, *, seed: int | None = None, shuffle: bool = True) -> None:
        self.number, self.shuffle, self.epoch = len(dataset), shuffle, 0
        self.seed = seed_of_process_0(torch.initial_seed() % 2**63) if seed is None else seed

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch of the next `order`."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """Indices (N,) in the order of the current epoch; 4 bytes each up to 2**31 images."""
        order = np.arange(self.number, dtype=np.int32 if self.number <= 2**31 else np.int64)
        if self.shuffle:
            # NumPy guarantees the stream of RandomState, but not of its successor: runs can resume with a later NumPy.
            seeds = np.random.SeedSequence((self.seed, self.epoch))
            np.random.RandomState(np.random.MT19937(seeds)).shuffle(order)
        return order


@DATA_SAMPLERS.register_module()
class PretrainBatchSampler(Sampler[list[Draw]]):
    """Batches of one process, as parts of global batches that do not depend on the number of processes.

    Iteration t of an epoch trains on images [t * G, (t + 1) * G) of the epoch's order, where G is the batch size of all
    processes together; rank r of w takes every w-th image from the r-th on. The seed of an image depends only on the
    run, the epoch and the image. Without `drop_last`, the last global batch of g < G images is padded: real images have
    weight G / g and padding has weight 0, so that the mean of weight * loss over all processes is the mean loss of the
    g images.

    Args:
        sampler: the order of the images.
        batch_size: images per process in a step.
        drop_last: drop the images that do not fill the last batch (other images in each epoch), as the paper does. With
            fewer images than a batch, the batch is made smaller, with a warning.
        repeats: crops of each image in a batch, decoded once (repeated augmentation, Hoffer et al. 2020, Augment your
            batch). A batch then has `batch_size / repeats` different images and an epoch has `repeats` times as many
            steps, so that E epochs compare to E * repeats epochs without.
        image_sizes: crop sizes over the course of training, as pairs (first epoch, pixels), where pixels is a side or
            (height, width): [(0, 160), (300, 192), (600, 224)] (progressive resolution: DailyMAE, Wu et al. 2024;
            FixRes, Touvron et al. 2019). Without any, the data set has one size. Each draw carries its size, so that
            persistent workers and resumed runs follow the schedule.
        rank, world_size: rank of this process and number of processes; torch.distributed's by default.

    Raises:
        ValueError: an argument is out of range, or there is no image for each process.
    """

    def __init__(self, sampler: PretrainSampler, batch_size: int, *, drop_last: bool = False, repeats: int = 1,
                 image_sizes: Sequence[tuple[int, int | Sequence[int]]] = (), rank: int | None = None,
                 world_size: int | None = None) -> None:
        if not isinstance(sampler, PretrainSampler):
            raise ValueError(f"sampler is a {type(sampler).__name__}: set sampler=dict(type="
                             "'mae_backbone.PretrainSampler') next to this batch_sampler in the config")
        if batch_size < 1 or repeats < 1 or batch_size % repeats:
            raise ValueError(f'batch_size={batch_size} and repeats={repeats}: both must be at least 1, and batch_size '
                             'a multiple of repeats')
        own_rank, own_world_size = get_dist_info()
        self.rank = own_rank if rank is None else rank
        self.world_size = own_world_size if world_size is None else world_size
        self.sampler, self.batch_size, self.drop_last, self.repeats = sampler, batch_size, drop_last, repeats
        self.image_sizes = _checked_stages(image_sizes)
        self.first = 0  # iteration at which the next pass starts
        if not len(self):
            self.batch_size = len(sampler) // self.world_size * repeats
            if not self.batch_size:
                raise ValueError(f'there are {len(sampler)} images for {self.world_size} processes: each needs one or '
                                 'more. Add images, or use fewer processes')
            _LOG.warning('batch size %d per process is larger than the training set of %d images: %d is used instead. '
                         'The learning rate is not changed; set the batch size to scale it', batch_size, len(sampler),
                         self.batch_size)

    @property
    def global_batch(self) -> int:
        """Crops in a step of all processes together."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Steps of an epoch."""
        images = self.global_batch // self.repeats
        return len(self.sampler) // images if self.drop_last else -(-len(self.sampler) // images)

    def set_epoch(self, epoch: int) -> None:
        """Selects the epoch of the next pass."""
        self.sampler.set_epoch(epoch)

    def start_at(self, iteration: int) -> None:
        """Starts only the next pass at this iteration of its epoch; no image before it is read."""
        if not 0 <= iteration <= len(self):
            raise ValueError(f'iteration {iteration} of an epoch that has {len(self)}: the run was saved with other '
                             'data, another batch size or another number of processes')
        self.first = iteration

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the crops in the current epoch, None for the size of the data set."""
        return next((size for first, size in reversed(self.image_sizes) if first <= self.sampler.epoch), None)

    def __iter__(self) -> Iterator[list[Draw]]:
        # A generator, so that a pass starts with its first batch: a DataLoader with workers creates one iterator that
        # it does not use.
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
        raise ValueError(f'image_sizes={list(stages)}, expected pairs (first epoch, pixels), sorted and starting at '
                         'epoch 0, such as [(0, 160), (300, 224)]')
    return [(epoch, checked_size(size)) for epoch, size in stages]


def seed_of_process_0(seed: int) -> int:
    """The seed of process 0, in all processes of a distributed run; 0..2**63 - 1."""
    shared = torch.tensor(seed)
    broadcast(shared)
    return int(shared)
