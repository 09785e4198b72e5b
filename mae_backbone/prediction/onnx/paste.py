"""Masks of an exported detector, on a grid over each box -> masks of the image, with NumPy only."""
import numpy as np


def paste_mask(mask: np.ndarray, box: np.ndarray, size: tuple[int, int], *, threshold: float = 0.5,
               ) -> tuple[np.ndarray, int, int]:
    """Resizes a mask to its box, bilinearly between the centers of its cells, as mmdet and detectron2 do.

    Outside of the grid the probability falls to 0 within half a cell, so that pixels around the box may belong to the
    object.

    Args:
        mask: (m, m) float, probabilities.
        box: (4,), x1, y1, x2, y2 in pixels.
        size: (H, W) of the image.
        threshold: pixels with this probability or more belong to the object.

    Returns:
        The region (h, w) bool of the image around the box, and its first row and column.
    """
    (rows, top), (columns, left) = (
        _weights(mask.shape[axis], float(box[1 - axis]), float(box[3 - axis]), size[axis]) for axis in (0, 1))
    return rows @ mask.astype(np.float32) @ columns.T >= threshold, top, left


def _weights(cells: int, begin: float, end: float, side: int) -> tuple[np.ndarray, int]:
    """Weights (pixels, cells) float32 of each cell along an axis, for the pixels from one before the box to one after.

    Returns:
        The weights, and the first of these pixels.
    """
    first, last = max(int(np.floor(begin)) - 1, 0), min(int(np.ceil(end)) + 1, side)
    pixels = np.arange(first, last, dtype=np.float32) + 0.5
    # A box without extent has no cells at any pixel.
    place = (pixels - begin) / (end - begin) * cells - 0.5 if end > begin else np.full_like(pixels, -2.0)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32), first
