"""Data preprocessor of segmenters for images with any number of channels."""
from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models import SegDataPreProcessor

from mae_backbone.models.preprocessor import check_bands
from mae_backbone.registry import MODELS


@MODELS.register_module()
class BandSegDataPreprocessor(SegDataPreProcessor):
    """mmseg's `SegDataPreProcessor`, which takes one or three channels, for any number of them.

    Args:
        mean, std: for each channel, on the scale of the pixels.
        options: as in `SegDataPreProcessor`. Channels are not exchanged.

    Raises:
        ValueError: mean and std have different lengths, a std is not positive, or channels are to be exchanged.
    """

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        check_bands(mean, std, options)
        super().__init__(**options)
        self._enable_normalize = True
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepares a batch as mmseg's does; raises ValueError if the images have other channels."""
        check_bands(self.mean, self.std, {}, data['inputs'])
        return super().forward(data, training)
