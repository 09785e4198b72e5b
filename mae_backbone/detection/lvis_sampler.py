"""Repeat factor sampling for LVIS: images of rare classes are drawn more often."""
import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
from mmengine.dataset import BaseDataset, InfiniteSampler

from mae_backbone.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(InfiniteSampler):
    """Endless epochs in which each image occurs as often as its repeat factor, on average.

    An image with a repeat factor of 2.3 occurs twice, and a third time with probability 0.3, drawn again in every
    epoch, as in detectron2. MMEngine's `ClassBalancedDataset` would repeat it three times. The order of an epoch
    depends only on the seed and the number of the epoch. As with any `InfiniteSampler`, processes take turns in one
    order, and resumed runs continue in it.

    Args:
        dataset: data set that returns the classes of its images (`get_cat_ids`).
        threshold: fraction of the images below which a class is rare.
        seed: random seed, the same in all processes; None: drawn by process 0.
    """

    def __init__(self, dataset: BaseDataset, *, threshold: float, seed: int | None = None) -> None:
        super().__init__(dataset, seed=seed)
        self.factors = repeat_factors(dataset, threshold)

    def order(self, epoch: int) -> np.ndarray:
        """Returns the shuffled image indices of an epoch."""
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((self.seed, epoch))))
        repeats = self.factors.astype(int) + (rng.random_sample(self.size) < self.factors % 1)
        order = np.arange(self.size).repeat(repeats)
        rng.shuffle(order)
        return order

    def _infinite_indices(self) -> Iterator[int]:
        for epoch in itertools.count():
            yield from self.order(epoch).tolist()


def repeat_factors(dataset: BaseDataset, threshold: float) -> np.ndarray:
    """Returns the repeat factor of each image (N,): sqrt(threshold / fraction of images with its rarest class), >= 1.

    Gupta et al., LVIS, CVPR 2019.
    """
    classes = [set(dataset.get_cat_ids(i)) for i in range(len(dataset))]
    num_images = Counter(itertools.chain.from_iterable(classes))
    rarest = [min((num_images[label] for label in labels), default=len(dataset)) for labels in classes]
    return np.sqrt(threshold * len(dataset) / np.array(rarest)).clip(min=1)
