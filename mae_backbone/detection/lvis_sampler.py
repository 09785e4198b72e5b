"""The order of LVIS's images in a training: those of rare classes come more often."""
import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
from mmengine.dataset import BaseDataset, InfiniteSampler

from mae_backbone.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(InfiniteSampler):
    """Epoch after epoch without end, in each an image as often as its repeat factor says, on average.

    With a factor of 2.3 it comes twice, and once more with a probability of .3, drawn anew in each epoch, as in
    detectron2; MMEngine's `ClassBalancedDataset` repeats it three times. An epoch depends on the seed and its number
    alone. Processes take turns in one order, and resumed runs go on in it, as with any `InfiniteSampler`.

    Args:
        dataset: what tells the classes of its images (`get_cat_ids`).
        threshold: share of the images, below which a class is rare.
        seed: of the run, the same in all processes; None: drawn by process 0.
    """

    def __init__(self, dataset: BaseDataset, *, threshold: float, seed: int | None = None) -> None:
        super().__init__(dataset, seed=seed)
        self.factors = repeat_factors(dataset, threshold)

    def order(self, epoch: int) -> np.ndarray:
        """Indices of all images of an epoch, shuffled."""
        chance = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((self.seed, epoch))))
        times = self.factors.astype(int) + (chance.random_sample(self.size) < self.factors % 1)
        order = np.arange(self.size).repeat(times)
        chance.shuffle(order)
        return order

    def _infinite_indices(self) -> Iterator[int]:
        for epoch in itertools.count():
            yield from self.order(epoch).tolist()


def repeat_factors(dataset: BaseDataset, threshold: float) -> np.ndarray:
    """How often each image (N,) is to come: sqrt(threshold / share of images with its rarest class), at least 1.

    Gupta et al., LVIS, CVPR 2019.
    """
    classes = [set(dataset.get_cat_ids(i)) for i in range(len(dataset))]
    images = Counter(itertools.chain.from_iterable(classes))
    rarest = [min((images[label] for label in image), default=len(dataset)) for image in classes]
    return np.sqrt(threshold * len(dataset) / np.array(rarest)).clip(min=1)
