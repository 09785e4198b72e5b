"""Repeat factor sampling: images of rare classes are drawn more often."""
import copy
import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
        dataset: data set of detection, segmentation or classification, see `classes_of_images`.
        threshold: fraction of the images below which a class is rare.
        seed: random seed, the same in all processes; None: drawn by process 0.
    """

    def __init__(self, dataset: Any, *, threshold: float, seed: int | None = None) -> None:
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


def repeat_factors(dataset: Any, threshold: float) -> np.ndarray:
    """Returns the repeat factor of each image (N,): sqrt(threshold / fraction of images with its rarest class), >= 1.

    Gupta et al., LVIS, CVPR 2019.
    """
    classes = classes_of_images(dataset)
    num_images = Counter(itertools.chain.from_iterable(classes))
    rarest = [min((num_images[label] for label in labels), default=len(dataset)) for labels in classes]
    return np.sqrt(threshold * len(dataset) / np.array(rarest)).clip(min=1)


def classes_of_images(dataset: Any) -> list[set[int]]:
    """Returns the classes that each image shows.

    Args:
        dataset: a data set of mmdet with `get_cat_ids`, `mae_backbone.ClassFolder`, or a data set of mmseg, whose label
            maps are all read.

    Raises:
        ValueError: any other data set.
    """
    # MMEngine's own method, which mmseg's data sets have, only raises an error.
    if getattr(type(dataset), 'get_cat_ids', BaseDataset.get_cat_ids) is not BaseDataset.get_cat_ids:
        return [set(dataset.get_cat_ids(index)) for index in range(len(dataset))]
    if hasattr(dataset, 'labels'):
        return [{label} for label in dataset.labels.tolist()]
    steps = [step for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
             if type(step).__name__ == 'LoadAnnotations']
    if not steps:
        raise ValueError(f'RepeatFactorSampler does not know the classes of the images of {type(dataset).__name__}: '
                         'expected get_cat_ids, labels, or a pipeline of mmseg with LoadAnnotations')

    def shown(index: int) -> set[int]:
        labels = steps[0](copy.deepcopy(dataset.get_data_info(index)))['gt_seg_map']
        return set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist()) - {dataset.ignore_index}
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(shown, range(len(dataset))))
