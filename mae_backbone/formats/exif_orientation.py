"""Decides whether annotations fit images as they are read, turned by their EXIF orientation, or as they are stored.

Sizes show it only for images that are turned by 90 degrees. Otherwise the content is asked: outlines of objects and
classes lie where the image changes. The gradients along the outlines are compared for both positions of the
annotations, one vote for each outline.
"""
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.data.jpeg_header import upright

MAX_IMAGES = 50        # that are decoded
_SIGNIFICANCE = 1e-3   # of the sign test; ten outlines that all agree are enough
_MIN_DIFFERENCE = 0.05  # relative difference of the gradients below which an outline has no vote, as symmetric ones


class Votes(NamedTuple):
    """Outlines that fit better to the image as it is read (turned), and as it is stored."""

    turned: int
    stored: int

    @property
    def decision(self) -> str:
        """'turned', 'stored', or '' if the votes do not tell."""
        for name, votes in (('turned', self.turned), ('stored', self.stored)):
            total = self.turned + self.stored
            chance = sum(math.comb(total, k) for k in range(votes, total + 1)) / 2 ** total
            if chance < _SIGNIFICANCE:
                return name
        return ''


def count_votes(images: Sequence[tuple[str, int]],
                outlines_of: Callable[[str, tuple[int, int]], Iterable[np.ndarray]]) -> Votes:
    """Compares both positions of the annotations.

    Args:
        images: paths and EXIF orientations (2..8) of turned images, as large after turning as before.
        outlines_of: path and (height, width) -> masks (H, W) bool, the outline of an object or of the classes of an
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
            moved = upright(outline, orientation)  # position of annotations of the stored image in the turned image
            if outline.shape != gradient.shape or moved.shape != gradient.shape or not outline.any():
                continue
            here, there = float(gradient[outline].mean()), float(gradient[moved].mean())
            if abs(here - there) > _MIN_DIFFERENCE * max(here, there):
                turned += here > there
                stored += there > here
    return Votes(turned, stored)


def box_outline(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Box (x, y, width, height) -> its outline (H, W) bool, two pixels wide."""
    x, y, width, height = (round(value) for value in box)
    canvas = np.zeros(size, np.uint8)
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), 1, 2)
    return canvas.astype(bool)


def polygon_outline(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Polygons [x, y, ...] -> their outline (H, W) bool, two pixels wide."""
    canvas = np.zeros(size, np.uint8)
    points = [np.array(polygon, np.float64).reshape(-1, 2).round().astype(np.int32) for polygon in polygons]
    cv2.polylines(canvas, points, True, 1, 2)
    return canvas.astype(bool)


def label_outline(labels: np.ndarray) -> np.ndarray:
    """Label map (H, W) -> True where a neighbor has another label."""
    outline = np.zeros(labels.shape, bool)
    outline[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    outline[1:] |= labels[1:] != labels[:-1]
    return outline
