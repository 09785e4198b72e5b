"""Selects a fraction of the labeled images of a data set."""
import io
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
from mmengine.dataset import BaseDataset

from mae_backbone.formats.dataset_spec import DataError, DatasetSpec


def subset_by_indices(spec: DatasetSpec, classes_of: Callable[[BaseDataset, int], set[int]], fraction: float,
                      seed: int, *, pipeline: list[dict]) -> str:
    """Sets `indices` of an MMEngine data set to a fraction of its images. Returns a line for the plan.

    Args:
        spec: settings of the data set.
        classes_of: returns the labels that the image at an index of the data set shows.
        fraction: in (0, 1].
        seed: seed of the order of the images.
        pipeline: transforms that `classes_of` needs.

    Raises:
        DataError: the config sets `indices` already.
    """
    if spec.cfg.get('indices') is not None:
        raise DataError(f'--labels {fraction:g}: the training set already has indices, which choose images: remove one '
                        'of the two')
    dataset, labels = _build(spec, pipeline), set(range(len(spec.class_names)))
    order, covered = covering_order(len(dataset), lambda index: classes_of(dataset, index) & labels, len(labels), seed)
    kept = order[:max(1, round(fraction * len(order)))]
    spec.cfg.indices = sorted(kept)
    return (f'labels: {len(kept):,} of {len(order):,} training images, which show '
            f'{[0, *covered][min(len(kept), len(covered))]} of {len(labels)} classes (seed {seed})')


def covering_order(num_images: int, classes_of: Callable[[int], set[int]], num_classes: int,
                   seed: int) -> tuple[list[int], list[int]]:
    """Returns a random order of images in which the first images show all classes that occur in any image.

    Images are put into a random order. An image is then moved to the front if it shows a class that no image before it
    shows. This slightly prefers images of rare classes, which would otherwise be missing in a small fraction.

    Args:
        num_images: number of images.
        classes_of: returns the classes that an image shows, by its index.
        num_classes: number of classes; images are examined in turn until all classes were seen.
        seed: seed of the random order.

    Returns:
        The indices of the images, and the number of classes that the first 1, 2, ... images at the front show.
    """
    shuffled = np.random.default_rng(seed).permutation(num_images).tolist()
    seen: set[int] = set()
    front, covered = [], []
    for index in shuffled:
        if len(seen) == num_classes:
            break
        if not (shown := classes_of(index)) <= seen:
            seen |= shown
            front.append(index)
            covered.append(len(seen))
    moved = set(front)
    return front + [index for index in shuffled if index not in moved], covered


def _build(spec: DatasetSpec, pipeline: list[dict]) -> BaseDataset:
    """Builds the data set, because only the data set determines which images it filters out."""
    assert spec.cls is not None, 'the format of a data set is detected by its class'
    options = {key: value for key, value in spec.cfg.items() if key not in ('type', '_scope_', 'pipeline')}
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress.
        return spec.cls(**options, pipeline=pipeline)
