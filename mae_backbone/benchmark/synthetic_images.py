"""Synthetic images that are as hard to decode as photographs."""
from pathlib import Path

import numpy as np


def photograph(height: int = 375, width: int = 500, *, seed: int = 0) -> np.ndarray:
    """Draws noise (H, W, 3) uint8 with the spectrum of natural images, whose amplitude falls as 1/f (Field, 1987).

    As in photographs, little of its variance is in the colors.
    """
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((3, height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    planes = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / max(height, width)), (height, width))
    gray, red_green, yellow_blue = (planes - planes.mean((1, 2), keepdims=True)) / planes.std((1, 2), keepdims=True)
    image = np.stack([gray + 0.15 * red_green, gray - 0.15 * red_green + 0.15 * yellow_blue,
                      gray - 0.15 * yellow_blue], axis=-1)
    return (image * 50 + 120).clip(0, 255).round().astype(np.uint8)


def write_photographs(folder: str | Path, number: int, *, height: int = 375, width: int = 500,
                      quality: int = 90) -> None:
    """Writes `number` JPEGs into a folder. The defaults are the common size of ImageNet, in pixels and in bytes."""
    import cv2  # not needed to draw an image
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i in range(number):
        cv2.imwrite(str(Path(folder, f'{i:06}.jpg')), photograph(height, width, seed=i),
                    [cv2.IMWRITE_JPEG_QUALITY, quality])
