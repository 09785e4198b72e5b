"""Measures a training set: sizes and pixels of a sample of its images, and the sizes of all boxes."""
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from mmengine.registry import TRANSFORMS

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.readers import Reader
from mae_backbone.data.reading import read_bytes, read_pixels
from mae_backbone.data.sources import open_source
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.unlabeled import UnlabeledImages

# Our choices. The mean of a single photograph differs from the mean of its data set by at most 0.6 standard deviations
# of the pixels, and the mean of 64 photographs by about 0.1. 64 photographs of 2 megapixels are decoded in one to two
# seconds.
NUM_SAMPLED = 64
_MAX_SAMPLED_PIXELS = 200_000_000
_NUM_THREADS = 8

_Load = Callable[[], np.ndarray]  # pixels (H, W, C) of an image; raises BadImageError or OSError


class ImageSample(NamedTuple):
    """Sizes and pixel statistics of N images with C channels, in the channel order of the reader."""

    sizes: np.ndarray  # (N, 2) height and width in pixels
    mean: np.ndarray   # (C,) mean of the means of the images
    std: np.ndarray    # (C,) standard deviation of the pixels of all images, each with the same weight
    num_images: int    # number of images in the data set


class BoxSizes(NamedTuple):
    """Sizes of N boxes in pixels of the image files."""

    boxes: np.ndarray   # (N, 2) height and width
    images: np.ndarray  # (N, 2) height and width of the image of each box


def sample_images(data_format: DataFormat, *, count: int = NUM_SAMPLED, seed: int = 0) -> ImageSample | None:
    """Decodes up to `count` random images of a data set and measures them. Images that cannot be read are skipped.

    Args:
        data_format: data set.
        count: largest number of images. Fewer are decoded if they have more than 200 million pixels in total.
        seed: random seed of the selection.

    Returns:
        None if the format is unknown or no image can be read.
    """
    try:
        num_images, load_of = _loaders(data_format)
    except (DataError, OSError, ValueError):
        return None
    if not num_images:
        return None
    chosen = np.random.default_rng(seed).permutation(num_images)[:count].tolist()
    rows, num_pixels = [], 0
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for start in range(0, len(chosen), _NUM_THREADS):
            if num_pixels > _MAX_SAMPLED_PIXELS:
                break
            loads = [load_of(index) for index in chosen[start:start + _NUM_THREADS]]
            done = [row for row in pool.map(_moments, loads) if row is not None]
            num_pixels += sum(row[0] * row[1] for row in done)
            rows += done
    if not rows:
        return None
    means, squares = (np.stack([row[column] for row in rows]) for column in (2, 3))
    mean = means.mean(axis=0)
    std = np.sqrt(np.maximum(squares.mean(axis=0) - mean ** 2, 0))
    return ImageSample(np.array([row[:2] for row in rows]), mean, std, num_images)


def box_sizes(data_format: DataFormat) -> BoxSizes | None:
    """Returns the sizes of all boxes that are used in training; None if the data set has no boxes."""
    if not isinstance(data_format, CocoFormat) or not os.path.isfile(data_format.spec.annotations):
        return None
    file = data_format.file
    images = np.array([(image.height, image.width) for image in file.images.values()], np.float32)
    boxes = file.objects.boxes
    return BoxSizes(boxes[:, :1:-1], images[file.objects.images]) if len(boxes) else None


def _moments(load: _Load) -> tuple[int, int, np.ndarray, np.ndarray] | None:
    """Returns height, width, mean (C,) and mean square (C,) of an image; None if the image cannot be read."""
    try:
        pixels = load()
    except (BadImageError, OSError):
        return None
    values = pixels.reshape(-1, pixels.shape[2])
    # A sum of 10**8 squares in float32 is inexact, and a copy of the pixels in float64 would need 8 bytes per value.
    mean = values.mean(axis=0, dtype=np.float64)
    square = np.einsum('pc,pc->c', values, values, dtype=np.float64, casting='unsafe') / len(values)
    return *pixels.shape[:2], mean, square


def _loaders(data_format: DataFormat) -> tuple[int, Callable[[int], _Load]]:
    """Returns the number of images of a data set, and a function that returns the loader of an image by its index."""
    spec = data_format.spec
    if isinstance(data_format, UnlabeledImages):
        reader = TRANSFORMS.build(dict(spec.option('reader') or dict(type='mae_backbone.ColorReader')))
        source = open_source(spec.option('data_root'), suffixes=reader.suffixes)
        return len(source), lambda index: lambda: _all_pixels(reader, source.read(index))
    reading = data_format.reading
    if isinstance(data_format, ClassFolders) and data_format.labeled.shards is not None:
        shards, rows = data_format.labeled.shards, data_format.labeled.rows.tolist()
        return len(rows), lambda index: lambda: read_bytes(shards.read(rows[index]), reading)
    paths = data_format.images()
    return len(paths), lambda index: lambda: read_pixels(paths[index], reading)


def _all_pixels(reader: Reader, data: bytes) -> np.ndarray:
    height, width = reader.size(data)
    return reader.crop(data, (0, 0, height, width), (height, width))
