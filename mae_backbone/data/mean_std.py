"""Mean and standard deviation of the pixels of a data set, for normalization."""
from typing import NamedTuple

import numpy as np

from mae_backbone.data.bit_depth import NUM_SAMPLED, ValueRange
from mae_backbone.data.decode import BadImageError
from mae_backbone.data.readers import Reader, is_unscaled
from mae_backbone.data.sources import Source


class PixelStatistics(NamedTuple):
    """Statistics of each channel on the scale of the reader: 0..255, or 0..65,535 for 16 bits."""

    mean: np.ndarray  # (C,) float64
    std: np.ndarray  # (C,) float64
    images: int  # number of images that were read
    bad: list[str]  # images that could not be read, with the reasons
    warning: str = ''  # not empty if 16-bit images use only a small part of their range


def measure(source: Source, reader: Reader, *, images: int = 2000) -> PixelStatistics:
    """Measures up to `images` images, evenly spaced over the source. Each image has the same weight.

    Raises:
        ValueError: no image can be read.
    """
    count, bad, sampled = 0, [], ValueRange()
    total, squares = np.zeros(reader.channels), np.zeros(reader.channels)
    for index in np.unique(np.linspace(0, len(source) - 1, min(images, len(source))).round().astype(int)).tolist():
        try:
            data = source.read(index)
            if sampled.images < NUM_SAMPLED and is_unscaled(reader):
                sampled.add(data)
            height, width = reader.size(data)
            # At full size: resizing would reduce the contrast.
            pixels = reader.crop(data, (0, 0, height, width), (height, width))
        except (BadImageError, OSError) as error:
            bad.append(f'{source.name(index)} {error}')
            continue
        values = pixels.reshape(-1, reader.channels).astype(np.float64)
        count += 1
        total += values.mean(axis=0)
        squares += np.square(values).mean(axis=0)
    if not count:
        raise ValueError(f'none of {len(bad)} images could be read. The first one: {bad[0]}')
    mean = total / count
    return PixelStatistics(mean, np.sqrt(np.maximum(squares / count - mean ** 2, 0)), count, bad, sampled.warning())
