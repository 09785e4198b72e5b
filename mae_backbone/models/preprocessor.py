"""Batch of bytes -> normalized pixels on the device."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from mae_backbone.registry import MODELS


@MODELS.register_module()
class PixelPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device as it was decoded, then flips and normalizes it there.

    Bytes take a quarter of the transfer of floats, and the processes that load images are spared the arithmetic.

    Args:
        mean, std: for each channel, on the scale of the pixels (0 to 255, or 0 to 65535 for 16 bits); both None to
            leave pixels as they are.
        non_blocking: do not wait for the copy to the device; has an effect for pinned memory.

    Raises:
        ValueError: mean and std have different lengths, or only one of them is given, or a std is not positive.
    """

    def __init__(self, *, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
            raise ValueError(f'mean={mean} and std={std}: expected both with a number for each channel, or neither')
        if std is not None and min(std) <= 0:
            raise ValueError(f'std={std}: a channel that does not vary cannot be normalized, leave it out or give it 1')
        self._enable_normalize = mean is not None
        if self._enable_normalize:
            self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)
            self.register_buffer('std', torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepares a batch of the DataLoader: inputs become (B, C, H, W) float32, all other entries stay.

        Args:
            data: dict(inputs=(B, H, W, C), integers or floats), or inputs as a list of (C, H, W) of one size. With
                flips (B,) bool, the images where it is True are mirrored.
            training: ignored.
        """
        data = self.cast_data(data)
        images, flips = data['inputs'], data.pop('flips', None)
        images = self._stack(images) if isinstance(images, (list, tuple)) else images.permute(0, 3, 1, 2)
        if images.dtype == torch.uint16:  # torch implements few operations for it
            images = images.int()
        if flips is not None:
            images = torch.where(flips[:, None, None, None], images.flip(-1), images)
        return data | {'inputs': self._normalize(images)}

    def _normalize(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> (images - mean) / std, float32."""
        if not self._enable_normalize:
            return images.float()
        if images.shape[1] != len(self.mean):
            raise ValueError(f'images have {images.shape[1]} channels, mean and std have {len(self.mean)}: give '
                             'data_preprocessor a mean and std for each channel of your images')
        return (images - self.mean) / self.std

    @staticmethod
    def _stack(images: Sequence[Tensor]) -> Tensor:
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) != 1 or len(next(iter(shapes))) != 3:
            raise ValueError(f'images have the shapes {sorted(shapes)}: a batch needs (C, H, W) of one size, crop or '
                             'resize them')
        return torch.stack(list(images))


class BandNormalization(nn.Module):
    """Mixin for the data preprocessors of mmdet and mmseg: normalizes any number of channels, in the order of the file.

    Args:
        mean, std: for each channel, on the scale of the pixels.
        options: of the preprocessor.

    Raises:
        ValueError: mean and std have different lengths, a std is not positive, or channels are to be exchanged.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        if len(mean) != len(std) or not len(mean) or min(std) <= 0:
            raise ValueError(f'mean={mean} and std={std}: expected a number for each channel, and every std above 0')
        if options.get('bgr_to_rgb') or options.get('rgb_to_bgr'):
            raise ValueError('the channels of bands are in the order of the file: set bgr_to_rgb=False')
        super().__init__(**options)
        self._enable_normalize = True
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepares a batch; raises ValueError if the images have other channels."""
        expected = len(self.get_buffer('mean'))
        channels = {len(image) for image in data['inputs']} - {expected}
        if channels:
            raise ValueError(f'images have {sorted(channels)} channels, mean and std have {expected}: set both for '
                             'each channel of your images')
        return super().forward(data, training)
