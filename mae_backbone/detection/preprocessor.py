"""Data preprocessor of detectors for images with any number of channels."""
from mmdet.models.data_preprocessors import DetDataPreprocessor

from mae_backbone.models.preprocessor import BandNormalization
from mae_backbone.registry import MODELS


@MODELS.register_module()
class BandDataPreprocessor(BandNormalization, DetDataPreprocessor):
    """mmdet's `DetDataPreprocessor`, which takes one or three channels, for any number of them.

    Args:
        mean, std: for each channel, on the scale of the pixels.
        options: as in `DetDataPreprocessor`. Channels are not exchanged.

    Raises:
        ValueError: mean and std have different lengths, a std is not positive, or channels are to be exchanged.
    """
