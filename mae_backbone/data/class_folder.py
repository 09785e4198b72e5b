"""Data set of labeled images for classification."""
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.data.band_transform import BandTransform
from mae_backbone.data.decode import DEFAULT, BadImageError, Decoding
from mae_backbone.data.files import checked_size, existing_folder
from mae_backbone.data.labeled import open_labeled
from mae_backbone.data.reading import Reading, read_bytes, read_pixels, reading_in, suffixes_of
from mae_backbone.registry import DATASETS

_ERASING = ('re_prob', 're_mode', 're_count', 're_num_splits')
_TRAIN_OPTIONS = ('no_aug', 'train_crop_mode', 'scale', 'ratio', 'hflip', 'vflip', 'color_jitter', 'color_jitter_prob',
                  'grayscale_prob', 'gaussian_blur_prob', 'auto_augment', 'interpolation')
_MAX_ASPECT = 64  # our choice: the part of an elongated image that is kept before its center crop
_EVAL_OPTIONS = ('crop_pct', 'crop_mode', 'crop_border_pixels', 'interpolation')


@DATASETS.register_module()
class ClassFolder(Dataset):
    """Labeled images in class folders `data_root/split/CLASS/`, a list `data_root/split.txt`, or shards.

    An item is dict(inputs=uint8 (3, H, W), data_samples=label). `open_labeled` describes the layouts. The labels follow
    `classes`, or else the sorted classes of the split 'train' if there is one. A split that lacks a class raises an
    error; otherwise all labels after that class would be shifted. timm's transforms also use the random generators of
    Python and NumPy, which MMEngine's Runner seeds in each worker.

    Args:
        data_root: folder of the splits.
        split: such as 'train' or 'val'; '' if the class folders are in `data_root` itself.
        image_size: side of the output, or (height, width), in pixels.
        train: random crops and flips. Otherwise the shorter side is resized to image_size / crop_pct, followed by a
            center crop.
        augment: options of `timm.data.create_transform`.
            For training, such as dict(auto_augment='rand-m9-mstd0.5-inc1'). The default has only crops and flips, as
            the linear probe of the MAE paper (appendix A.1).
            For evaluation, such as dict(crop_pct=.95). The default is .875 at 128 to 224 pixels and 1 above, as in the
            public MAE code (`util/datasets.py`), and 1 below, since sets of small images are cropped already.
        classes: names of the classes in the order of their labels.
        fraction: fraction of the images of each class, in (0, 1], at least one per class. With the same seed, a smaller
            fraction is a subset of a larger one.
        seed: random seed of the choice of these images.
        reader: config of a `ColorReader` that scales 16-bit images or changes the limit of pixels, or of a reader of
            bands. Images of other than three channels with 8 bits have the augmentations of `BandTransform` only; 16
            bits come as float32.

    Raises:
        BadImageError: an image cannot be read (when its item is loaded).
        FileNotFoundError, ValueError: folders or options are missing, empty or unknown.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', *, train: bool,
                 image_size: int | Sequence[int] = 224, augment: dict | None = None,
                 classes: Sequence[str] | None = None, fraction: float = 1.0, seed: int = 0,
                 reader: dict | None = None) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f'fraction={fraction}, expected a fraction of the images in (0, 1], such as 0.1')
        self.reading = reading_in(dict(reader=reader))
        self.transform = image_transform(checked_size(image_size), train, augment or {}, self.reading)
        images = open_labeled(existing_folder(data_root), split, classes, suffixes_of(self.reading))
        chosen = np.concatenate([_subset(np.flatnonzero(images.labels == label), fraction, (seed, int(label)))
                                 for label in np.unique(images.labels)])
        self.classes, self.shards = images.classes, images.shards
        self.labels, self.files, self.rows = (column[chosen] for column in (images.labels, images.files, images.rows))

    @property
    def metainfo(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes in the order of their labels, in the format of MMEngine's data sets."""
        return {'classes': self.classes}

    def fingerprint(self) -> str:
        """Hash of file names, labels and transforms."""
        options = (self.classes, self.transform, *([] if self.reading == DEFAULT else [self.reading]))
        digest = hashlib.sha256(repr(options).encode())
        for column in (self.files, self.labels):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        return {'inputs': self.transform(self.pixels(index)), 'data_samples': int(self.labels[index])}

    def pixels(self, index: int) -> np.ndarray:
        """An image (H, W, 3) uint8 RGB, or (H, W, channels) of a reader. Raises BadImageError if it cannot be read."""
        name = os.fsdecode(self.files[index])
        if self.shards is None:
            return read_pixels(name, self.reading)
        data = self.shards.read(int(self.rows[index]))
        try:
            return read_bytes(data, self.reading)
        except BadImageError as error:
            raise BadImageError(f'{name} {error}') from error


def evaluation_transform(image_size: int | Sequence[int], augment: dict | None = None,
                         reading: Reading = DEFAULT) -> Callable[[np.ndarray], Tensor]:
    """Evaluation transform of `ClassFolder`: image (H, W, C) as it was read -> (C, H', W')."""
    return image_transform(checked_size(image_size), False, augment or {}, reading)


def image_transform(size: tuple[int, int], train: bool, augment: dict,
                    reading: Reading) -> Callable[[np.ndarray], Tensor]:
    """The transform for images (H, W, C) as they are read: timm's for color images, else `BandTransform`."""
    if isinstance(reading, Decoding) or reading.is_color:
        # The other modes of evaluation show the whole image, and do not enlarge its long side.
        is_cropped = not train and augment.get('crop_mode') in (None, 'center')
        return _OnArrays(_transform(size, train, augment),
                         math.ceil(_MAX_ASPECT * max(size) / min(size)) if is_cropped else None)
    return BandTransform(size, train, augment)


class _OnArrays:
    """Applies a transform of timm, which takes images of PIL, to an array.

    Args:
        transform: transform of timm.
        aspect: largest aspect ratio. Of a more elongated image only the central part is transformed. timm resizes the
            shorter side before its center crop, for which an image of 1 x 60,000 pixels would take 15 GB.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], aspect: int | None = None) -> None:
        self.transform, self.aspect = transform, aspect

    def __call__(self, pixels: np.ndarray) -> Tensor:
        if self.aspect is not None:
            longest = self.aspect * min(pixels.shape[:2])
            top, left = (max(0, (side - longest) // 2) for side in pixels.shape[:2])
            pixels = pixels[top:top + longest, left:left + longest]
        return self.transform(Image.fromarray(pixels))

    def __repr__(self) -> str:
        return repr(self.transform)


def _transform(size: tuple[int, int], train: bool, augment: dict) -> Callable[[Image.Image], Tensor]:
    """timm's transform to a uint8 tensor (3, H, W), without normalization."""
    erasing = [key for key in augment if key in _ERASING]
    if erasing:
        raise ValueError(f'augment has {", ".join(erasing)}: random erasing needs normalized batches, set '
                         'random_erasing of mae_backbone.ViTClassifier instead')
    allowed = _TRAIN_OPTIONS if train else _EVAL_OPTIONS
    unknown = [key for key in augment if key not in allowed]
    if unknown:
        raise ValueError(f'augment has {", ".join(unknown)}; with train={train} the options are {", ".join(allowed)}')
    defaults = {'color_jitter': None} if train else {'crop_pct': 0.875 if 128 <= max(size) <= 224 else 1.0}
    transform = create_transform((3, *size), is_training=train, normalize=False,
                                 **({'interpolation': 'bicubic'} | defaults | augment))
    for step in transform.transforms:
        for op in [*getattr(step, 'ops', []), *chain.from_iterable(getattr(step, 'policy', []))]:
            if op.name.startswith('Posterize'):
                op.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    """Posterizes with at least one bit: timm's strongest magnitudes give 0, for which Pillow 13 raises an error."""
    return ImageOps.posterize(image, min(max(bits, 1), 8))


def _subset(rows: np.ndarray, fraction: float, seed: tuple[int, int]) -> np.ndarray:
    """Returns a random fraction of the rows in their order, at least one row.

    The rows are the first ones of a permutation that `seed` determines.
    """
    count = max(1, round(fraction * len(rows)))
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])]
