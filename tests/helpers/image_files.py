"""Image files for tests."""
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    """Red grows to the right, green downwards: every crop, flip and turn of it looks different."""
    image = np.full((height, width, 3), 100, np.uint8)
    image[..., 0] = np.linspace(0, 255, width).round()
    image[..., 1] = np.linspace(0, 255, height).round()[:, None]
    return image


def save(path: Path, pixels: np.ndarray | None = None, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ramp() if pixels is None else pixels).save(path, **options)
    return path


def make_classes(root: Path, **counts: int) -> Path:
    for label, (name, count) in enumerate(counts.items()):
        for i in range(count):
            save(root / name / f'{i:03}.png', np.full((8, 8, 3), 50 * label + i, np.uint8))
    return root


def difference(one: np.ndarray | torch.Tensor, two: np.ndarray | torch.Tensor) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(two).astype(int)).max())


def photograph(height: int = 375, width: int = 500, seed: int = 0) -> np.ndarray:
    """Noise with the spectrum of photographs, falling as 1/f: as hard to pack and to resize as they are."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((3, height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    gray, *colors = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / max(height, width)), (height, width))
    gray, *colors = ((plane - plane.mean()) / plane.std() for plane in (gray, *colors))
    image = np.stack([gray + 0.15 * (a * colors[0] + b * colors[1]) for a, b in ((1, 0), (-1, 1), (0, -1))], axis=-1)
    return (image * 50 + 120).clip(0, 255).round().astype(np.uint8)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', **options)
    return file.getvalue()
