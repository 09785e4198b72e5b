"""Images made worse in nine ways at five strengths: noise, blur, light, and what files lose.

The ways are nine of the fifteen of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), written anew on OpenCV, with
strengths of our own. They compare models with one another on any set; numbers on the published files are others.
"""
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

STRENGTHS = (1, 2, 3, 4, 5)
_SIDE = 224  # pixels of an image for which blurs are given in pixels


def corrupt(image: np.ndarray, name: str, strength: int, seed: int = 0) -> np.ndarray:
    """image (H, W, 3) uint8 RGB -> the same made worse; the seed decides the noise.

    Raises:
        ValueError: a corruption or a strength that does not exist.
    """
    if name not in CORRUPTIONS or strength not in STRENGTHS:
        raise ValueError(f'corruption {name!r} of strength {strength}, wanted one of {", ".join(CORRUPTIONS)} of '
                         'strength 1 to 5')
    function, values = CORRUPTIONS[name]
    result = function(image, values[strength - 1], np.random.default_rng((seed, strength)))
    return result.clip(0, 255).round().astype(np.uint8)


class Corrupted(Dataset):
    """A data set whose images are corrupted as they come out of its transform; every image has a seed of its own.

    Args:
        dataset: its items are dict(inputs=uint8 (3, H, W), ...).
        name: of the corruption.
        strength: from 1 to 5.
    """

    def __init__(self, dataset: Dataset, name: str, strength: int) -> None:
        corrupt(np.zeros((8, 8, 3), np.uint8), name, strength)  # refuses what does not exist
        self.dataset, self.name, self.strength = dataset, name, strength

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        item = self.dataset[index]
        image = item['inputs'].permute(1, 2, 0).numpy()
        worse = corrupt(image, self.name, self.strength, seed=index)
        return {**item, 'inputs': torch.from_numpy(worse).permute(2, 0, 1).contiguous()}


def _gaussian_noise(image: np.ndarray, deviation: float, draw: np.random.Generator) -> np.ndarray:
    """Deviation as a share of the brightest value."""
    return image + draw.normal(0, 255 * deviation, image.shape)


def _shot_noise(image: np.ndarray, photons: float, draw: np.random.Generator) -> np.ndarray:
    """Photons of the brightest value: the noise of the dark."""
    return draw.poisson(image / 255 * photons) / photons * 255


def _impulse_noise(image: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Share of the values that become black or white."""
    chance = draw.random(image.shape)
    return np.where(chance < share / 2, 0, np.where(chance < share, 255, image))


def _defocus_blur(image: np.ndarray, radius: float, _: np.random.Generator) -> np.ndarray:
    """Every point becomes a disc of that radius, and half a pixel: small images too are to be blurred."""
    radius = radius * max(image.shape[:2]) / _SIDE + 0.5
    reach = int(np.ceil(radius))
    distance = np.hypot(*np.mgrid[-reach:reach + 1, -reach:reach + 1])
    return _filtered(image, (radius + 0.5 - distance).clip(0, 1))  # the rim in part: small radii count


def _motion_blur(image: np.ndarray, length: float, draw: np.random.Generator) -> np.ndarray:
    """Every point becomes a line of that length, of any direction."""
    length *= max(image.shape[:2]) / _SIDE
    reach = int(np.ceil(length / 2))
    angle = draw.uniform(0, np.pi)
    y, x = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    return _filtered(image, (length / 2 + 0.5 - abs(along)).clip(0, 1) * (1 - abs(across)).clip(0, 1))


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image.astype(np.float32), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def _brightness(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    """Adds a share of the brightest value, the hues kept."""
    colors = cv2.cvtColor((image / 255).astype(np.float32), cv2.COLOR_RGB2HSV)
    colors[..., 2] = (colors[..., 2] + share).clip(0, 1)
    return 255 * cv2.cvtColor(colors, cv2.COLOR_HSV2RGB)


def _contrast(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    """Leaves a share of the differences from the mean color."""
    mean = image.mean(axis=(0, 1))
    return mean + share * (image - mean)


def _jpeg(image: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    """JPEG of that quality, of 100."""
    data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def _pixelate(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    """A share of the pixels of each side."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, round(width * share)), max(1, round(height * share))),
                       interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
# Each with what it takes at the five strengths.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    'gaussian_noise': (_gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    'shot_noise': (_shot_noise, (60, 25, 12, 5, 3)),
    'impulse_noise': (_impulse_noise, (0.03, 0.06, 0.1, 0.17, 0.27)),
    'defocus_blur': (_defocus_blur, (1.5, 2.5, 4, 6, 8)),
    'motion_blur': (_motion_blur, (8, 12, 18, 25, 35)),
    'brightness': (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    'contrast': (_contrast, (0.5, 0.35, 0.25, 0.15, 0.08)),
    'jpeg_compression': (_jpeg, (30, 20, 15, 10, 6)),
    'pixelate': (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.2)),
}
