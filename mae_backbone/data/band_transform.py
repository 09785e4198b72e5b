"""Crops and flips of labeled images with any number of channels."""
import math

import numpy as np
import torch
from torch import Tensor

from mae_backbone.data.resize import resize

TRAIN_OPTIONS = ('scale', 'ratio', 'hflip', 'vflip', 'interpolation')
_EVALUATION_OPTIONS = ('crop_pct', 'interpolation')
_ATTEMPTS = 10  # torchvision's RandomResizedCrop


class BandTransform:
    """Crops, resizes and flips an image: (H, W, C) of 8 or 16 bits -> (C, H', W'), uint8, or float32 for 16 bits.

    In training a crop of a random area and aspect ratio is resized, and flipped, as by torchvision's RandomResizedCrop.
    In evaluation the shorter side is resized to size / crop_pct, followed by a center crop.

    Args:
        size: (height, width) of the result.
        train: random crops and flips.
        augment: scale=(0.08, 1), ratio=(3/4, 4/3), hflip=0.5, vflip=0 and interpolation='bicubic' in training,
            crop_pct and interpolation in evaluation, as in `ClassFolder`.

    Raises:
        ValueError: `augment` has an option that changes colors. Bands are not colors.
    """

    def __init__(self, size: tuple[int, int], train: bool, augment: dict) -> None:
        allowed = TRAIN_OPTIONS if train else _EVALUATION_OPTIONS
        unknown = sorted(set(augment) - set(allowed))
        if unknown:
            raise ValueError(f'augment has {", ".join(unknown)}, for images of other than three channels with 8 bits: '
                             f'leave out what changes colors; the options with train={train} are {", ".join(allowed)}')
        self.size, self.train = size, train
        self.scale, self.ratio = augment.get('scale', (0.08, 1.0)), augment.get('ratio', (3 / 4, 4 / 3))
        self.flips = augment.get('hflip', 0.5), augment.get('vflip', 0.0)
        self.crop_pct = augment.get('crop_pct', 0.875 if 128 <= max(size) <= 224 else 1.0)
        self.interpolation = augment.get('interpolation', 'bicubic')

    def __call__(self, pixels: np.ndarray) -> Tensor:
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        size = pixels.shape[0], pixels.shape[1]
        box = self._random_box(size) if self.train else self._center_box(size)
        crop = resize(pixels, box, self.size, interpolation=self.interpolation)
        if self.train:
            across, down = torch.rand(2).tolist()
            crop = crop[:, ::-1] if across < self.flips[0] else crop
            crop = crop[::-1] if down < self.flips[1] else crop
        crop = np.ascontiguousarray(crop if crop.dtype == np.uint8 else crop.astype(np.float32))
        return torch.from_numpy(crop).permute(2, 0, 1)

    def _random_box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        height, width = size
        for _ in range(_ATTEMPTS):
            area = height * width * torch.empty(1).uniform_(*self.scale).item()
            ratio = math.exp(torch.empty(1).uniform_(math.log(self.ratio[0]), math.log(self.ratio[1])).item())
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return _at(height - h), _at(width - w), h, w
        return self._center_box(size)

    def _center_box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The box of the center crop in pixels of the image, with the aspect ratio of the result."""
        fraction = self.crop_pct * min(size[0] / self.size[0], size[1] / self.size[1])
        h, w = (max(1, min(side, round(fraction * wanted))) for side, wanted in zip(size, self.size, strict=True))
        return (size[0] - h) // 2, (size[1] - w) // 2, h, w

    def __repr__(self) -> str:
        return (f'BandTransform(size={self.size}, train={self.train}, scale={self.scale}, ratio={self.ratio}, '
                f'flips={self.flips}, crop_pct={self.crop_pct}, interpolation={self.interpolation})')


def _at(room: int) -> int:
    return int(torch.randint(room + 1, ()))
