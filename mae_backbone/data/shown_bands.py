"""Conversion of images with any number of channels to red, green and blue for display."""
from collections.abc import Sequence

import numpy as np

_PERCENTILES = (1, 99)  # percentiles of 16-bit images that become black and white


def to_shown(image: np.ndarray, channels: Sequence[int] | None = None) -> np.ndarray:
    """image (H, W) or (H, W, C) of 8 or 16 bits -> (H, W, 3) uint8.

    8-bit images keep their values. Of 16-bit images each channel is stretched from its 1st to its 99th percentile.

    Args:
        image: pixels.
        channels: three channels to show as red, green and blue. None takes the first three, or the first channel as
            gray if there are fewer than three.
    """
    planes = image[..., None] if image.ndim == 2 else image
    chosen = list(channels or ((0, 1, 2) if planes.shape[2] >= 3 else (0, 0, 0)))
    shown = planes[..., chosen]
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    sample = shown[::max(1, len(shown) // 512), ::max(1, shown.shape[1] // 512)].reshape(-1, 3)
    low, high = np.percentile(sample, _PERCENTILES, axis=0).astype(np.float32)
    return (255 * ((shown.astype(np.float32) - low) / np.maximum(high - low, 1))).clip(0, 255).astype(np.uint8)
