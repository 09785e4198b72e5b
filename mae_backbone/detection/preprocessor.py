"""Data preprocessor of detectors for images with any number of channels."""
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor

from mae_backbone.registry import MODELS


@MODELS.register_module()
class BandDataPreprocessor(DetDataPreprocessor):
    """mmdet's `DetDataPreprocessor`, which takes one or three channels, for any number of them.

    Args:
        mean, std: for each channel, on the scale of the pixels.
        options: as in `DetDataPreprocessor`. Channels are not exchanged.

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
        """Prepares a batch as mmdet's does; raises ValueError if the images have other channels."""
        channels = {image.shape[0] for image in data['inputs']}
        if channels - {len(self.mean)}:
            raise ValueError(f'images have {sorted(channels)} channels, mean and std have {len(self.mean)}: set both '
                             'for each channel of your images')
        return super().forward(data, training)
