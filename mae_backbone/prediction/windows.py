"""Splits images into windows of the size of a pretraining, and joins the windows."""
import math
from collections.abc import Sequence

import numpy as np

DEFAULT_SCALE = (0.2, 1.0)  # default of `UnlabeledImages`: area of a crop as a fraction of the image


def magnification(size: tuple[int, int], window: tuple[int, int], scale: Sequence[float] = DEFAULT_SCALE) -> float:
    """Mean factor by which a pretraining resizes an image of `size` (H, W).

    The crops cover a fraction of the area of the image from the range `scale`, and are resized to `window`.
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
    """windows (N, h, w, ...) of `to_windows` -> (H, W, ...) of `size`."""
    window = windows.shape[1], windows.shape[2]
    rows, columns = grid_of(size, window)
    cells = windows.reshape(rows, columns, *windows.shape[1:]).swapaxes(1, 2)
    return cells.reshape(rows * window[0], columns * window[1], *windows.shape[3:])[:size[0], :size[1]]


def grid_of(size: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
    """Returns the number of rows and columns of windows that cover an image of `size`."""
    return -(-size[0] // window[0]), -(-size[1] // window[1])
