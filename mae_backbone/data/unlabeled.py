"""Data set of unlabeled images for pretraining."""
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.data.bad_images import BadImages
from mae_backbone.data.batch import as_batch, empty_pixels
from mae_backbone.data.bit_depth import NUM_SAMPLED, ValueRange
from mae_backbone.data.counter_rng import hashed, uniforms
from mae_backbone.data.crops import NUM_UNIFORMS, Box, random_box
from mae_backbone.data.decode import BadImageError
from mae_backbone.data.files import checked_size
from mae_backbone.data.readers import is_unscaled
from mae_backbone.data.resize import INTERPOLATIONS, resize
from mae_backbone.data.sampler import Draw
from mae_backbone.data.sources import open_source
from mae_backbone.registry import DATASETS, TRANSFORMS

_LOG = logging.getLogger(__name__)
_CROP, _OTHER_IMAGE = 1, 2  # streams of random numbers of a seed


@DATASETS.register_module(name=['UnlabeledImages', 'UnlabelledImages'])  # the second: configs of version 0.1
class UnlabeledImages(Dataset):
    """Images with random crops and flips, the only augmentation that MAE needs (paper, table 1e).

    The seed of its `Draw` determines the crop and flip of an image. An unreadable image is listed once and replaced by
    another one, which the seed determines, too.

    `__getitems__(draws)` returns a batch: dict(inputs=uint8 or uint16 (B, H, W, C), seeds=(B,) int64, flips=(B,) bool,
    weights=(B,) float32). Its pixels are not flipped yet. `dataset[index]` returns dict(inputs=(C, H, W)) with a seed
    from torch's generator.

    Args:
        data_root: folder (flat or nested), list of files (.txt), or shards, see `open_source`.
        image_size: side of the resized crop, or (height, width), in pixels.
        scale: smallest and largest fraction of the image area in a crop, in (0, 1].
        flip: probability of a horizontal flip.
        interpolation: 'bicubic' or 'bilinear'.
        reader: config of the reader, a class of data/readers.py or your own registered one. The default reads color
            images with 8 bits.
        max_bad_share: fraction of unreadable images at which training stops, in [0, 1], see `BadImages`.
        indices: use only this number of images, evenly spaced.
        cache: keep decoded images in the memory of each worker, which must be persistent. About twice as fast for
            32x32 images (CIFAR-10: 150 MB per worker); large images need too much memory.

    Raises:
        BadImageError: more than `max_bad_share` of the images are unreadable (when an item is loaded).
        ValueError: an argument is out of range; also the errors of `open_source`.
    """

    def __init__(self, data_root: str | Path | Sequence[str | Path], *, image_size: int | Sequence[int] = 224,
                 scale: Sequence[float] = (0.2, 1.0), flip: float = 0.5, interpolation: str = 'bicubic',
                 reader: dict | None = None, max_bad_share: float = 0.01, indices: int | None = None,
                 cache: bool = False) -> None:
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f'interpolation={interpolation!r}, expected one of {INTERPOLATIONS}')
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'scale={scale}, expected the smallest and the largest fraction of the area, such as '
                             '(0.2, 1.0)')
        if not (0 <= flip <= 1 and 0 <= max_bad_share <= 1):
            raise ValueError(f'flip={flip} and max_bad_share={max_bad_share} must be in 0..1')
        self.image_size, self.scale, self.flip = checked_size(image_size), scale, flip
        self.interpolation = interpolation
        self.reader = TRANSFORMS.build(reader or dict(type='mae_backbone.ColorReader'))
        self.source = open_source(data_root, suffixes=self.reader.suffixes)
        self.number = _checked_number(len(self.source), indices)
        self.cache: dict[int, np.ndarray] | None = {} if cache else None
        self.bad = BadImages(max_bad_share)
        if is_unscaled(self.reader) and int(os.environ.get('RANK', 0)) == 0:
            self._check_bit_depth()

    def __len__(self) -> int:
        return self.number

    def _check_bit_depth(self) -> None:
        values = ValueRange()
        for index in np.unique(np.linspace(0, len(self.source) - 1, NUM_SAMPLED).astype(int)).tolist():
            with suppress(OSError):
                values.add(self.source.read(index))
        if values.warning():
            _LOG.warning(values.warning())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = range(len(self))[index]  # an IndexError ends iteration
        batch = self.batch([Draw(index, int(torch.randint(2**63 - 1, ())))])
        image = batch['inputs'][0].permute(2, 0, 1)
        return {'inputs': (image.flip(-1) if batch['flips'][0] else image).contiguous()}

    def __getitems__(self, draws: Sequence[Draw] | Sequence[int]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Batch of these draws. Plain indices, which other samplers give, return a list of items."""
        if not isinstance(draws[0], Draw):
            return [self[index] for index in cast(Sequence[int], draws)]
        return self.batch(cast(Sequence[Draw], draws))

    def batch(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """Batch of these draws, as described above."""
        numbers = uniforms([draw.seed for draw in draws], 1 + NUM_UNIFORMS, stream=_CROP)
        pixels = empty_pixels(len(draws), *(draws[0].size or self.image_size), self.reader.channels,
                              dtype=self.reader.dtype)
        outs = pixels.numpy()
        for crops in _groups_of_one_image(draws):
            self._fill(draws[crops.start], numbers[crops, 1:], outs[crops])
        return as_batch(pixels, draws, numbers[:, 0] < self.flip)

    def _fill(self, draw: Draw, numbers: np.ndarray, outs: np.ndarray) -> None:
        """Fills outs (k, H, W, C) with crops of the image of a draw, or of a replacement if it is unreadable."""
        index, attempt = draw.index, 0
        while not self._crop(index, numbers, outs):
            self.bad.check(len(self))
            # A random image, not the next one: unreadable files are often neighbors, such as a folder of previews.
            index = int(hashed(draw.seed, _OTHER_IMAGE, attempt)[0] % np.uint64(len(self)))
            attempt += 1

    def _crop(self, index: int, numbers: np.ndarray, outs: np.ndarray) -> bool:
        """Fills outs (k, H, W, C) with crops of an image; returns whether it could be read."""
        if index in self.bad.known:
            self.bad.count(bad=1)
            return False
        place = index * len(self.source) // len(self)
        try:
            self._crop_file(place, index, numbers, outs)
        except Exception as error:  # an error of a decoder must not end a long run
            self.bad.add(index, *_reason(self.source.name(place), error))
            self.bad.count(bad=1)
            return False
        self.bad.count()
        return True

    def _crop_file(self, place: int, index: int, numbers: np.ndarray, outs: np.ndarray) -> None:
        size = outs.shape[1:3]
        pixels = None if self.cache is None else self.cache.get(index)
        data = self.source.read(place) if pixels is None else b''
        height, width = self.reader.size(data) if pixels is None else pixels.shape[:2]
        boxes = [random_box(height, width, row, self.scale) for row in numbers]
        if self.cache is None and len(boxes) == 1:
            self.reader.crop(data, boxes[0], size, outs[0], interpolation=self.interpolation)
            return
        # Decoded once, then cropped from memory.
        around = (0, 0, height, width) if self.cache is not None else _union(boxes)
        if pixels is None:
            pixels = self.reader.crop(data, around, around[2:])
        if self.cache is not None:
            self.cache[index] = pixels
        for (top, left, height, width), out in zip(boxes, outs, strict=True):
            resize(pixels, (top - around[0], left - around[1], height, width), size, interpolation=self.interpolation,
                   out=out)


def _groups_of_one_image(draws: Sequence[Draw]) -> Iterator[slice]:
    """Groups of neighboring draws of the same image.

    Padding (weight 0) forms a separate group: the pixels of an image must not depend on the padding next to it.
    """
    first = 0
    for i in range(1, len(draws) + 1):
        if i == len(draws) or draws[i].index != draws[first].index or not draws[i].weight:
            yield slice(first, i)
            first = i


def _reason(name: str, error: Exception) -> tuple[str, str]:
    """Name of an image, and the reason why it is unreadable in a sentence that starts with the name."""
    if isinstance(error, OSError):
        return name, str(error) if name in str(error) else f'{name}: {error}'
    return name, f'{name} {error}' if isinstance(error, BadImageError) else f'{name}: {type(error).__name__}: {error}'


def _union(boxes: Sequence[Box]) -> Box:
    """Smallest box that contains all boxes."""
    top, left = min(box[0] for box in boxes), min(box[1] for box in boxes)
    return top, left, max(box[0] + box[2] for box in boxes) - top, max(box[1] + box[3] for box in boxes) - left


def _checked_number(available: int, requested: int | None) -> int:
    if requested is not None and not 0 < requested <= available:
        raise ValueError(f'indices={requested}, but there are {available} images: choose 1 to {available}, or omit it '
                         'to use all')
    return requested or available
