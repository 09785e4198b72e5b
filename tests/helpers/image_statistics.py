"""Images with a given mean and deviation of their pixels."""
from pathlib import Path

import cv2
import numpy as np


def write_noise(path: Path, size: tuple[int, int], mean: tuple[float, ...] = (124, 116, 104),
                std: tuple[float, ...] = (58, 57, 57), seed: int = 0) -> None:
    """Writes an RGB image of `size` (height, width) whose channels have this mean and, before clipping, deviation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-3 ** 0.5, 3 ** 0.5, (*size, 3))
    pixels = (np.array(mean) + np.array(std) * noise).clip(0, 255).round().astype(np.uint8)
    # Noise does not compress, and takes long to try.
    assert cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
