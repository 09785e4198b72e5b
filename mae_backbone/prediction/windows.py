"""Splits images into windows of the image size of a pretraining, and joins the windows again."""
import math
from collections.abc import Sequence

import numpy as np

DEFAULT_SCALE = (0.2, 1.0)  # default of `UnlabeledImages`: area of a crop as a fraction of the image


def magnification(size: tuple[int, int], window: tuple[int, int], scale: Sequence[float] = DEFAULT_SCALE) -> float:
    """Returns the mean factor by which a pretraining resizes an image.

    Args:
        size: (H, W) of the image.
        window: (H, W) to which crops are resized.
        scale: range of the area of crops, as a fraction of the area of the image.
    """
    area = size[0] * size[1] * (scale[0] + scale[1]) / 2
    return math.sqrt(window[0] * window[1] / area)


def to_windows(image: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """image (H, W, C) -> windows (N, *window, C) row by row. The image is mirrored beyond its edges."""
    rows, columns = grid_of(image.shape[:2], window)
    below, right = (count * side - length for count, side, length in zip(
        (rows, columns), window, image.shape[:2], strict=True))
    padded = np.pad(image, ((0, below), (0, right), (0, 0)), mode='symmetric')
    cells = padded.reshape(rows, window[0], columns, window[1], -1)
    return cells.swapaxes(1, 2).reshape(rows * columns, *window, -1)


def from_windows(windows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Inverse of `to_windows`: windows (N, h, w, ...) -> (H, W, ...) of `size` (H, W), without the mirrored pixels."""
    window = windows.shape[1], windows.shape[2]
    rows, columns = grid_of(size, window)
    cells = windows.reshape(rows, columns, *windows.shape[1:]).swapaxes(1, 2)
    return cells.reshape(rows * window[0], columns * window[1], *windows.shape[3:])[:size[0], :size[1]]


def grid_of(size: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """Returns the number of rows and columns of windows that cover an image of `size`."""
    return -(-size[0] // window[0]), -(-size[1] // window[1])
