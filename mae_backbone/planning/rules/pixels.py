"""Chooses the normalization of the pixels, and readers for images with 16 bits or more than three channels."""
from typing import Any, NamedTuple

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.plan import Stage
from mae_backbone.planning.rules.encoder import Encoder

_VARYING = 0.3  # if `Fingerprint.exposure` is above this, each image of 16 bits is scaled by its own percentiles


class Pixels(NamedTuple):
    """Reading and normalization of images.

    Attributes:
        mean, std: mean and standard deviation of each channel after the scaling.
        scaling: options of `ColorReader` and `LoadImage` that scale 16 bits to 8; empty for images of 8 bits.
        channels: number of input channels of the model.
        reader: config of the reader; None for the default.
    """

    mean: list[float]
    std: list[float]
    scaling: dict[str, Any]
    channels: int
    reader: dict[str, Any] | None

    @property
    def has_bands(self) -> bool:
        """True if the reader returns images that are not color images of 8 bits."""
        return self.reader is not None and (self.channels != 3 or self.reader.get('dtype') == 'uint16')

    @property
    def loading(self) -> dict[str, Any]:
        """Transform that loads the images of a detector or segmenter."""
        if self.reader is None:
            return dict(type='LoadImageFromFile')
        if self.scaling:
            return dict(type='mae_backbone.LoadImage', **self.scaling)
        return dict(type='mae_backbone.LoadImage', reader=dict(self.reader))

    def normalization(self, preprocessor: str) -> dict[str, Any]:
        """Returns settings of the data preprocessor of a detector or segmenter.

        Args:
            preprocessor: type of the data preprocessor for images that do not have three channels.
        """
        settings: dict[str, Any] = dict(mean=self.mean, std=self.std)
        if not self.has_bands:
            return settings
        return (dict(type=preprocessor) if self.channels != 3 else {}) | settings | dict(bgr_to_rgb=False)

    @property
    def in_channels(self) -> dict[str, int]:
        """Setting of the encoder for the number of channels; empty for three channels, the default."""
        return dict(in_channels=self.channels) if self.channels != 3 else {}


def choose_pixels(stage: Stage, fingerprint: Fingerprint, encoder: Encoder) -> Pixels:
    """Chooses the normalization, and adds the reasons to the stage."""
    scaling = {} if fingerprint.reader else _scaling(stage, fingerprint)
    channels = fingerprint.channels if fingerprint.reader else 3
    weights = encoder.weights
    if weights is not None and len(weights.mean) == channels:
        mean, std = ([round(value, 3) for value in values] for values in (weights.mean, weights.std))
        stage.choose('mean and std', [mean, std], f'normalization of the pretraining of {weights.path}',
                     'weights need their own normalization: ScrollPrize/villa#1364')
    else:
        mean, std = _own(fingerprint, scaling, channels)
        stage.choose('mean and std', [mean, std], f'measured on {fingerprint.num_sampled} images',
                     'nnU-Net, fingerprint_extractor.py: own statistics')
    return Pixels(mean, std, scaling, channels, _reader(stage, fingerprint, scaling))


def _scaling(stage: Stage, fingerprint: Fingerprint) -> dict[str, Any]:
    if fingerprint.bits <= 8 or len(fingerprint.value_range) != 2:
        return {}
    if fingerprint.exposure > _VARYING:
        return dict(percentiles=stage.choose(
            'scaling of 16 bits', (0.5, 99.5), f'percentiles of each image: the medians of the images deviate by '
            f'{fingerprint.exposure:.0%} of their mean', 'percentiles: nnU-Net, micro-sam; threshold ours'))
    low, high = (round(value) for value in fingerprint.value_range)
    return dict(value_range=stage.choose(
        'scaling of 16 bits', (low, max(low + 1, high)),
        f'0.5th to 99.5th percentile of the values; the medians of the images deviate by {fingerprint.exposure:.0%}',
        'nnU-Net, CT normalization'))


def _own(fingerprint: Fingerprint, scaling: dict[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Returns the measured mean and standard deviation after the scaling. Values of gray images are repeated."""
    mean, std = fingerprint.mean, fingerprint.std
    known = next((fingerprint.scaled[option] for option in scaling if option in fingerprint.scaled), None)
    if known is not None:
        mean, std = known
    if len(mean) != channels:
        mean, std = [(list(values) * channels)[:channels] if len(values) == 1 else list(values)[:channels]
                     for values in (mean, std)]
    if scaling and known is None and len(fingerprint.value_range) == 2:
        low, high = fingerprint.value_range
        factor = 255 / max(high - low, 1.0)
        mean, std = [(value - low) * factor for value in mean], [value * factor for value in std]
    return [round(value, 1) for value in mean], [round(max(value, 1.0), 1) for value in std]


def _reader(stage: Stage, fingerprint: Fingerprint, scaling: dict[str, Any]) -> dict[str, Any] | None:
    if not fingerprint.reader:
        return dict(type='mae_backbone.ColorReader', **scaling) if scaling else None
    files = {'ArrayReader': 'arrays of NumPy', 'TiffReader': 'TIFF'}[fingerprint.reader]
    kind = stage.choose('reader', f'mae_backbone.{fingerprint.reader}', f'{files} with {fingerprint.channels} channels '
                        f'of {fingerprint.bits} bits', 'the only reader for such files')
    return dict(type=kind, channels=fingerprint.channels, dtype=f'uint{fingerprint.bits}')
