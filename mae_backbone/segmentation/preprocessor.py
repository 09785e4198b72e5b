"""Data preprocessor of segmenters for images with any number of channels."""
from mmseg.models import SegDataPreProcessor

from mae_backbone.models.preprocessor import BandNormalization
from mae_backbone.registry import MODELS


@MODELS.register_module()
class BandSegDataPreprocessor(BandNormalization, SegDataPreProcessor):
    """mmseg's `SegDataPreProcessor`, which takes one or three channels, for any number of them.

    Args:
        mean, std: for each channel, on the scale of the pixels.
        options: as in `SegDataPreProcessor`. Channels are not exchanged.

    Raises:
        ValueError: mean and std have different lengths, a std is not positive, or channels are to be exchanged.
    """
