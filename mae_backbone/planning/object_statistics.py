"""Sizes, shapes, numbers and overlaps of the objects of a detection data set."""
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
NUM_BOXES = 2000         # largest number of box sizes that are kept to fit anchors, evenly spaced
_MAX_PER_IMAGE = 500     # largest number of boxes of an image for which overlaps are computed
_MAX_IMAGES = 2000       # largest number of images for which overlaps are computed, evenly spaced
_CROWDED = 0.5           # IoU above which the usual non-maximum suppression removes a box (COCO configs of mmdet)


@dataclass(frozen=True)
class ObjectStatistics:
    """Objects of the training set.

    Attributes:
        count: number of objects.
        has_masks: True if all objects have a mask.
        sides: percentiles (`PERCENTILES`) of the square root of the area of the boxes, in pixels of the files.
        ratios: percentiles of height / width of the boxes.
        relative_sides: percentiles of the square root of the area divided by the long side of the image.
        per_image: number of objects in an image: 50th, 99th and 99.9th percentile, and maximum.
        empty_images: fraction of the images without objects.
        crowded: fraction of the objects that overlap another object of the same class with an IoU above 0.5.
        boxes: for up to 2,000 boxes: height and width of the box, height and width of its image, in pixels.
    """

    count: int
    has_masks: bool
    sides: dict[str, float]
    ratios: dict[str, float]
    relative_sides: dict[str, float]
    per_image: dict[str, float]
    empty_images: float
    crowded: float
    boxes: list[list[float]]


def measure_objects(objects: Iterable[tuple[np.ndarray, tuple[float, float]]], *, has_masks: bool
                    ) -> ObjectStatistics | None:
    """Measures objects; None if there are none.

    Args:
        objects: for each image, boxes (N, 5) from `DataFormat.objects`, and width and height of the image.
        has_masks: whether all objects have a mask.
    """
    rows, counts, per_image = [], [], []
    for boxes, (width, height) in objects:
        counts.append(len(boxes))
        if len(boxes):
            rows.append(np.column_stack([boxes[:, 3], boxes[:, 2], np.broadcast_to([height, width], (len(boxes), 2))]))
            per_image.append(boxes)
    if not rows:
        return None
    sizes = np.concatenate(rows).astype(np.float64)                    # (N, 4)
    sides = np.sqrt(np.maximum(sizes[:, 0] * sizes[:, 1], 1e-9))
    kept = sizes[np.linspace(0, len(sizes) - 1, min(len(sizes), NUM_BOXES)).astype(int)]
    return ObjectStatistics(
        count=len(sizes), has_masks=has_masks, sides=percentiles(sides),
        ratios=percentiles(sizes[:, 0] / np.maximum(sizes[:, 1], 1e-3)),
        relative_sides=percentiles(sides / sizes[:, 2:].max(axis=1), digits=4),
        per_image={'50': float(np.percentile(counts, 50)), '99': float(np.percentile(counts, 99)),
                   '99.9': float(np.percentile(counts, 99.9)), 'max': float(max(counts))},
        empty_images=round(counts.count(0) / len(counts), 4), crowded=crowded_fraction(per_image),
        boxes=kept.round(1).tolist())


def percentiles(values: np.ndarray, *, digits: int = 2) -> dict[str, float]:
    """Returns the `PERCENTILES` of values (N,), rounded to `digits`, by their rank as a string such as '50'."""
    return {str(rank): round(float(value), digits)
            for rank, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def crowded_fraction(per_image: list[np.ndarray]) -> float:
    """Fraction of the objects that overlap another object of the same class with an IoU above 0.5.

    Args:
        per_image: boxes (N, 5) of each image, with x, y, width, height and label.
    """
    chosen = np.linspace(0, len(per_image) - 1, min(len(per_image), _MAX_IMAGES)).astype(int)
    crowded = total = 0
    for index in chosen.tolist():
        boxes = per_image[index][:_MAX_PER_IMAGE].astype(np.float64)
        crowded += int((largest_overlaps(boxes) > _CROWDED).sum())
        total += len(boxes)
    return round(crowded / max(1, total), 4)


def largest_overlaps(boxes: np.ndarray) -> np.ndarray:
    """Largest IoU of each box with another box of the same label: (N, 5) with x, y, width, height, label -> (N,)."""
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    low, high, labels = boxes[:, :2], boxes[:, :2] + boxes[:, 2:4], boxes[:, 4]
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])      # (N, N, 2)
    intersection = np.maximum(shared, 0).prod(axis=2)
    areas = boxes[:, 2:4].prod(axis=1)
    overlaps = intersection / np.maximum(areas[:, None] + areas[None] - intersection, 1e-9)
    overlaps[labels[:, None] != labels[None]] = 0
    np.fill_diagonal(overlaps, 0)
    return overlaps.max(axis=1)
