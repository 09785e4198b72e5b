"""Computes the random crop boxes of torchvision's RandomResizedCrop from given uniform random numbers."""
import math
from collections.abc import Sequence

import numpy as np

ATTEMPTS = 10  # as torchvision
NUM_UNIFORMS = 2 * ATTEMPTS + 2  # uniform numbers per box
Box = tuple[int, int, int, int]  # top, left, height, width


def random_box(height: int, width: int, numbers: np.ndarray, scale: Sequence[float],
               ratio: Sequence[float] = (3 / 4, 4 / 3)) -> Box:
    """Random box with the distribution of torchvision's RandomResizedCrop.

    Args:
        height, width: size of the image in pixels.
        numbers: (NUM_UNIFORMS,) uniform numbers in [0, 1).
        scale: smallest and largest fraction of the area.
        ratio: smallest and largest width / height.

    Returns:
        (top, left, height, width) in pixels.
    """
    area, logs = height * width, (math.log(ratio[0]), math.log(ratio[1]))
    for attempt in range(ATTEMPTS):
        target_area = area * _between(scale, numbers[2 * attempt])
        aspect = math.exp(_between(logs, numbers[2 * attempt + 1]))
        w, h = round(math.sqrt(target_area * aspect)), round(math.sqrt(target_area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(numbers[-2] * (height - h + 1)), int(numbers[-1] * (width - w + 1)), h, w
    return central_box(height, width, ratio)


def central_box(height: int, width: int, ratio: Sequence[float]) -> Box:
    """The largest centered box with width / height in `ratio`."""
    h, w = height, width
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def _between(bounds: Sequence[float], fraction: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * fraction
