"""Decides whether annotations fit images after or before the rotation by their EXIF orientation.

The sizes of images show this only for rotations by 90 degrees. In other cases the content of the images is used:
outlines of objects and classes are usually at edges of the image. For each outline, the gradients along it are compared
for both positions of the annotations, and the position with the larger gradients gets a vote.
"""
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.data.jpeg_header import upright

MAX_IMAGES = 50        # largest number of images that are decoded
_SIGNIFICANCE = 1e-3   # significance of the sign test. Ten equal votes are enough
_MIN_DIFFERENCE = 0.05  # an outline has a vote only if the relative difference of the gradients is above this


class Votes(NamedTuple):
    """Numbers of outlines that fit better to the rotated image (`turned`), and to the image as it is stored."""

    turned: int
    stored: int

    @property
    def decision(self) -> str:
        """'turned', 'stored', or '' if the difference is not significant."""
        for name, votes in (('turned', self.turned), ('stored', self.stored)):
            total = self.turned + self.stored
            chance = sum(math.comb(total, k) for k in range(votes, total + 1)) / 2 ** total
            if chance < _SIGNIFICANCE:
                return name
        return ''


def count_votes(images: Sequence[tuple[str, int]],
                outlines_of: Callable[[str, tuple[int, int]], Iterable[np.ndarray]]) -> Votes:
    """Compares both positions of the annotations for each outline.

    Args:
        images: paths and EXIF orientations (2..8) of images whose size does not change by the rotation.
        outlines_of: function from path and (height, width) to outlines (H, W) bool of the objects or classes of an
            image, at the coordinates of the annotations.
    """
    turned = stored = 0
    for path, orientation in images[:MAX_IMAGES]:
        try:
            gray = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
            outlines = list(outlines_of(path, (gray.shape[0], gray.shape[1])))
        except (BadImageError, OSError):
            continue
        gradient = np.hypot(*(cv2.Sobel(gray, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1))))
        for outline in outlines:
            moved = upright(outline, orientation)  # if the annotations are for the stored image, rotate them with it
            if outline.shape != gradient.shape or moved.shape != gradient.shape or not outline.any():
                continue
            here, there = float(gradient[outline].mean()), float(gradient[moved].mean())
            if abs(here - there) > _MIN_DIFFERENCE * max(here, there):
                turned += here > there
                stored += there > here
    return Votes(turned, stored)


def box_outline(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Draws the outline of a box (x, y, width, height), two pixels wide, into an array (H, W) bool."""
    x, y, width, height = (round(value) for value in box)
    canvas = np.zeros(size, np.uint8)
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), 1, 2)
    return canvas.astype(bool)


def polygon_outline(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Draws the outlines of polygons [x, y, ...], two pixels wide, into an array (H, W) bool."""
    canvas = np.zeros(size, np.uint8)
    points = [np.array(polygon, np.float64).reshape(-1, 2).round().astype(np.int32) for polygon in polygons]
    cv2.polylines(canvas, points, True, 1, 2)
    return canvas.astype(bool)


def label_outline(labels: np.ndarray) -> np.ndarray:
    """Label map (H, W) -> (H, W) bool, True for pixels whose left or upper neighbor has another label."""
    outline = np.zeros(labels.shape, bool)
    outline[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    outline[1:] |= labels[1:] != labels[:-1]
    return outline
