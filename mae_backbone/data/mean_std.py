"""Mean and standard deviation of the pixels of a set, which the model's input is normalized with."""
from typing import NamedTuple

import numpy as np

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.readers import Reader
from mae_backbone.data.sources import Source


class PixelStatistics(NamedTuple):
    """Of each channel, in the numbers that the files hold: 0 to 255, or to 65,535."""

    mean: np.ndarray  # (C,) float64
    std: np.ndarray  # (C,) float64
    images: int  # that were read
    bad: list[str]  # what is wrong with those that were not


def measure(source: Source, reader: Reader, *, images: int = 2000) -> PixelStatistics:
    """Statistics of up to `images` images, spread evenly over the source; each image counts the same.

    Raises:
        ValueError: none can be read.
    """
    count, total, squares, bad = 0, np.zeros(reader.channels), np.zeros(reader.channels), []
    for index in np.unique(np.linspace(0, len(source) - 1, min(images, len(source))).round().astype(int)).tolist():
        try:
            data = source.read(index)
            height, width = reader.size(data)
            # As stored: a smaller image would have lost contrast.
            pixels = reader.crop(data, (0, 0, height, width), (height, width))
        except (BadImageError, OSError) as error:
            bad.append(f'{source.name(index)} {error}')
            continue
        values = pixels.reshape(-1, reader.channels).astype(np.float64)
        count += 1
        total += values.mean(axis=0)
        squares += np.square(values).mean(axis=0)
    if not count:
        raise ValueError(f'none of {len(bad)} images could be read, the first one: {bad[0]}')
    mean = total / count
    return PixelStatistics(mean, np.sqrt(np.maximum(squares / count - mean ** 2, 0)), count, bad)
