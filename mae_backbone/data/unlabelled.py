"""Folders of images without labels, for pretraining."""
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import RandomResizedCrop

from mae_backbone.data.decode import BadImage, read_image
from mae_backbone.data.files import checked_size, list_images, packed
from mae_backbone.registry import DATASETS

_LOG = logging.getLogger(__name__)


@DATASETS.register_module()
class UnlabelledImages(Dataset):
    """The images under a folder, each cropped and flipped at random, which is all that MAE needs (paper, table 1e).

    An item is dict(inputs=uint8 (3, H, W)). All chance comes from torch's generator, which a DataLoader seeds in each
    worker. An image that cannot be read is logged once and another is drawn in its place.

    Args:
        data_root: folder, searched with `list_images`.
        image_size: side of the crop after resizing, or (height, width), in pixels.
        scale: smallest and largest share of the image's area in a crop, in (0, 1].
        flip: probability of a horizontal flip.
        interpolation: 'bicubic' or 'bilinear'.
        max_bad_share: share of bad images at which to stop, in [0, 1]. Each worker judges by what it has seen, and
            allows three standard deviations more, so that an unlucky start does not end a run.
        indices: use that many images only, spread evenly over the sorted list.
        cache: keep decoded images in memory, in each worker, which must be persistent: about twice as fast on images of
            32x32 (CIFAR-10: 150 MB a worker), not worth its memory on large ones.

    Raises:
        BadImage: when an item is taken, more than `max_bad_share` of the images are bad.
        ValueError: an argument out of its range; and what `list_images` raises.
    """

    def __init__(self, data_root: str | Path, *, image_size: int | Sequence[int] = 224,
                 scale: Sequence[float] = (0.2, 1.0), flip: float = 0.5, interpolation: str = 'bicubic',
                 max_bad_share: float = 0.01, indices: int | None = None, cache: bool = False) -> None:
        if interpolation not in ('bicubic', 'bilinear'):
            raise ValueError(f"interpolation={interpolation!r}, wanted 'bicubic' or 'bilinear'")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'scale={scale}, wanted the smallest and the largest share of the area, such as (.2, 1.)')
        if not (0 <= flip <= 1 and 0 <= max_bad_share <= 1):
            raise ValueError(f'flip={flip} and max_bad_share={max_bad_share} are shares: both must be in 0..1')
        self.image_size, self.scale, self.flip = checked_size(image_size), scale, flip
        self.interpolation, self.max_bad_share = interpolation, max_bad_share
        self.files = packed(_spread(list_images(data_root), indices))
        self.cache = {} if cache else None
        self.seen, self.bad = 0, {}  # images tried; index of a bad one -> what is wrong with it

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels = self._read(index)
        while pixels is None:
            self._stop_if_too_many_are_bad()
            # Not the neighbour: bad files lie together (a folder of previews), and would be met one after the other.
            pixels = self._read(int(torch.randint(len(self), ())))
        return {'inputs': self._augment(torch.from_numpy(pixels).permute(2, 0, 1))}

    def _read(self, index: int) -> np.ndarray | None:
        """Pixels (H, W, 3) of a file, None where it is bad."""
        if index in self.bad:
            return None
        if self.cache is not None and index in self.cache:
            return self.cache[index]
        self.seen += 1
        try:
            pixels = read_image(os.fsdecode(self.files[index]))
        except (BadImage, OSError) as error:
            self.bad[index] = str(error)
            _LOG.warning('skipped: %s', error)
            return None
        if self.cache is not None:
            self.cache[index] = pixels
        return pixels

    def _stop_if_too_many_are_bad(self) -> None:
        expected = self.max_bad_share * self.seen
        allowed = expected + 3 * math.sqrt(expected) + 1 if self.max_bad_share else 0
        if len(self.bad) > allowed or len(self.bad) == len(self):
            examples = '\n  '.join(list(self.bad.values())[:5])
            raise BadImage(f'{len(self.bad)} of {self.seen} images could not be read, more than max_bad_share='
                           f'{self.max_bad_share} of them:\n  {examples}\n'
                           'Remove or repair them, or raise max_bad_share in the config')

    def _augment(self, image: Tensor) -> Tensor:
        """image (3, any height, any width) -> (3, H, W) of `image_size`."""
        top, left, height, width = RandomResizedCrop.get_params(image, self.scale, (3 / 4, 4 / 3))
        crop = image[None, :, top:top + height, left:left + width]
        # With antialias this is PIL's filter, the paper's, to within 2 of 255. OpenCV's bicubic does not antialias
        # where it shrinks, and its area filter blurs where it hardly does.
        crop = F.interpolate(crop, self.image_size, mode=self.interpolation, antialias=True)[0]
        return (crop.flip(-1) if torch.rand(()).item() < self.flip else crop).contiguous()


def _spread(files: list[Path], count: int | None) -> list[Path]:
    """`count` of the files at even distances: the first ones would all be of one folder."""
    if count is None:
        return files
    if not 0 < count <= len(files):
        raise ValueError(f'indices={count}, but there are {len(files)} images: choose 1 to {len(files)}, or leave '
                         'it out to take all')
    return [files[i * len(files) // count] for i in range(count)]
