"""Resizes the masks of an exported detector from a grid over each box to the pixels of the image, with NumPy only."""
import numpy as np


def paste_mask(mask: np.ndarray, box: np.ndarray, size: tuple[int, int], *, threshold: float = 0.5,
               ) -> tuple[np.ndarray, int, int]:
    """Resizes a mask to its box, bilinearly between the centers of its cells, as in mmdet and detectron2.

    Beyond the centers of the outer cells the probability decreases linearly to 0, so that pixels just outside of the
    box may belong to the object.

    Args:
        mask: (m, m) float, probabilities in the cells of a grid over the box.
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
    """Returns the weight of each cell for each pixel along an axis.

    The weights cover the pixels of the box, and one more on each side.

    Returns:
        Weights (pixels, cells) float32, and the index of the first pixel.
    """
    first, last = max(int(np.floor(begin)) - 1, 0), min(int(np.ceil(end)) + 1, side)
    pixels = np.arange(first, last, dtype=np.float32) + 0.5
    # If the box has no extent, all weights are 0.
    place = (pixels - begin) / (end - begin) * cells - 0.5 if end > begin else np.full_like(pixels, -2.0)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))).astype(np.float32), first
