"""Images without labels, for pretraining."""
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.data.bad_images import BadImages
from mae_backbone.data.batch import as_batch, empty_pixels
from mae_backbone.data.chance import hashed, uniforms
from mae_backbone.data.crops import CHANCES, random_box
from mae_backbone.data.decode import BadImage, read_image
from mae_backbone.data.files import checked_size, list_images, packed
from mae_backbone.data.sampler import Draw
from mae_backbone.registry import DATASETS

_CROP, _OTHER_IMAGE = 1, 2  # streams of a seed's random numbers


@DATASETS.register_module()
class UnlabelledImages(Dataset):
    """The images under a folder, each cropped and flipped at random, which is all that MAE needs (paper, table 1e).

    All chance of an image comes from the seed of its `Draw`. An image that cannot be read is listed once and another,
    which the seed chooses too, is taken in its place.

    `dataset[draws]` by `__getitems__` is a batch: dict(inputs=uint8 (B, H, W, C), seeds=(B,) int64, flips=(B,) bool,
    weights=(B,) float32), whose pixels are not flipped yet. `dataset[index]` is dict(inputs=uint8 (C, H, W)), with a
    seed from torch's generator.

    Args:
        data_root: folder, searched with `list_images`.
        image_size: side of the crop after resizing, or (height, width), in pixels.
        scale: smallest and largest share of the image's area in a crop, in (0, 1].
        flip: probability of a horizontal flip.
        interpolation: 'bicubic' or 'bilinear'.
        max_bad_share: share of bad images at which to stop, in [0, 1]; see `BadImages`.
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
        self.interpolation = interpolation
        self.files = packed(_spread(list_images(data_root), indices))
        self.cache = {} if cache else None
        self.bad = BadImages(max_bad_share)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.__getitems__([Draw(index, int(torch.randint(2**63 - 1, ())))])
        image = batch['inputs'][0].permute(2, 0, 1)
        return {'inputs': (image.flip(-1) if batch['flips'][0] else image).contiguous()}

    def __getitems__(self, draws: Sequence[Draw] | Sequence[int]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The batch of these draws; of bare indices, as other samplers give them, a list of items."""
        if not isinstance(draws[0], Draw):
            return [self[index] for index in draws]
        chances = uniforms([draw.seed for draw in draws], 1 + CHANCES, stream=_CROP)
        pixels = empty_pixels(len(draws), *(draws[0].size or self.image_size), 3)
        for out, draw, numbers in zip(pixels.numpy(), draws, chances, strict=True):
            self._crop(draw, numbers[1:], out)
        return as_batch(pixels, draws, chances[:, 0] < self.flip)

    def _crop(self, draw: Draw, chances: np.ndarray, out: np.ndarray) -> None:
        """Fills out (H, W, 3) with a crop of the image, or of the first one after it that can be read."""
        pixels, attempt = self._read(draw.index), 0
        while pixels is None:
            self.bad.check(len(self))
            # Not the neighbour: bad files lie together (a folder of previews), and would be met one after the other.
            other = int(hashed(draw.seed, _OTHER_IMAGE, attempt)[0] % np.uint64(len(self)))
            pixels, attempt = self._read(other), attempt + 1
        top, left, height, width = random_box(*pixels.shape[:2], chances, self.scale)
        crop = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, top:top + height, left:left + width]
        # With antialias this is PIL's filter, the paper's, to within 2 of 255. OpenCV's bicubic does not antialias
        # where it shrinks, and its area filter blurs where it hardly does.
        crop = F.interpolate(crop, out.shape[:2], mode=self.interpolation, antialias=True)[0]
        out[:] = crop.permute(1, 2, 0).numpy()

    def _read(self, index: int) -> np.ndarray | None:
        """Pixels (H, W, 3) of a file, None where it is bad."""
        self.bad.saw()
        if index not in self.bad.known:
            if self.cache is not None and index in self.cache:
                return self.cache[index]
            path = os.fsdecode(self.files[index])
            try:
                pixels = read_image(path)
            except (BadImage, OSError) as error:
                self.bad.add(index, path, str(error))
            else:
                if self.cache is not None:
                    self.cache[index] = pixels
                return pixels
        self.bad.saw(0, bad=1)
        return None


def _spread(files: list[Path], count: int | None) -> list[Path]:
    """`count` of the files at even distances: the first ones would all be of one folder."""
    if count is None:
        return files
    if not 0 < count <= len(files):
        raise ValueError(f'indices={count}, but there are {len(files)} images: choose 1 to {len(files)}, or leave '
                         'it out to take all')
    return [files[i * len(files) // count] for i in range(count)]
