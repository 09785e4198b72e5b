"""Image files for tests."""
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
