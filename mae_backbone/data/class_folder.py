"""Labeled images, for classification."""
import hashlib
import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.data.decode import BadImageError, decode, read_image
from mae_backbone.data.files import checked_size, existing_folder
from mae_backbone.data.labeled import open_labeled
from mae_backbone.registry import DATASETS

_ERASING = ('re_prob', 're_mode', 're_count', 're_num_splits')
_TRAIN_OPTIONS = ('no_aug', 'train_crop_mode', 'scale', 'ratio', 'hflip', 'vflip', 'color_jitter', 'color_jitter_prob',
                  'grayscale_prob', 'gaussian_blur_prob', 'auto_augment', 'interpolation')
_EVAL_OPTIONS = ('crop_pct', 'crop_mode', 'crop_border_pixels', 'interpolation')


@DATASETS.register_module()
class ClassFolder(Dataset):
    """Labeled images in `data_root/split/CLASS/`; an item is dict(inputs=uint8 (3, H, W), data_samples=label).

    Or in a list, `data_root/split.txt`, or in shards: see `open_labeled`. The labels follow the order of `classes`, or
    else of the sorted folders of `data_root/train` where there is one: a class that another split lacks stops the run,
    instead of shifting all labels after it. timm's transforms draw from Python's and NumPy's generators too, which
    MMEngine's Runner seeds in each worker.

    Args:
        data_root: folder of the splits.
        split: such as 'train' or 'val'; '' where the class folders stand in `data_root` itself.
        image_size: side of the output, or (height, width), in pixels.
        train: random crops and flips; else the shorter side is resized to image_size / crop_pct, and the center cut
            out.
        augment: options of `timm.data.create_transform`.
            For training such as dict(auto_augment='rand-m9-mstd0.5-inc1'); by default crops and flips alone, as the
            paper's linear probe (appendix A.1).
            For evaluation such as dict(crop_pct=.95); by default .875 at 128 to 224 pixels and 1 above, as in the
            public MAE code (`util/datasets.py`), and 1 below, as sets of small images come cut out already.
        classes: names of the classes in the order of their labels.
        fraction: share of the images of each class, in (0, 1], at least one of each; a smaller one is a subset of a
            larger one with the same seed.
        seed: of that choice.

    Raises:
        BadImageError: an image cannot be read, when its item is taken.
        FileNotFoundError, ValueError: folders or options that are missing, empty or unknown.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', *, train: bool,
                 image_size: int | Sequence[int] = 224, augment: dict | None = None,
                 classes: Sequence[str] | None = None, fraction: float = 1.0, seed: int = 0) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f'fraction={fraction}, wanted a share of the images in (0, 1], such as .1')
        self.transform = _transform(checked_size(image_size), train, augment or {})
        found = open_labeled(existing_folder(data_root), split, classes)
        chosen = np.concatenate([_part(np.flatnonzero(found.labels == label), fraction, (seed, int(label)))
                                 for label in np.unique(found.labels)])
        self.classes, self.shards = found.classes, found.shards
        self.labels, self.files, self.rows = (column[chosen] for column in (found.labels, found.files, found.rows))

    @property
    def metainfo(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes in the order of their labels, under the key that MMEngine's datasets have."""
        return {'classes': self.classes}

    def fingerprint(self) -> str:
        """What tells these images, labels and transforms from any other, by the names of the files."""
        digest = hashlib.sha256(repr((self.classes, self.transform)).encode())
        for column in (self.files, self.labels):
            digest.update(np.ascontiguousarray(column))
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        image = Image.fromarray(self.pixels(index))
        return {'inputs': self.transform(image), 'data_samples': int(self.labels[index])}

    def pixels(self, index: int) -> np.ndarray:
        """An image (H, W, 3) uint8 RGB as it is stored. Raises BadImageError where it cannot be read."""
        name = os.fsdecode(self.files[index])
        if self.shards is None:
            return read_image(name)
        try:
            return decode(self.shards.read(int(self.rows[index])))
        except BadImageError as error:
            raise BadImageError(f'{name} {error}') from error


def evaluation_transform(image_size: int | Sequence[int],
                         augment: dict | None = None) -> Callable[[np.ndarray], Tensor]:
    """What `ClassFolder` does to an image (H, W, 3) uint8 RGB when it does not train -> uint8 (3, H', W')."""
    transform = _transform(checked_size(image_size), False, augment or {})
    return lambda image: transform(Image.fromarray(image))


def _transform(size: tuple[int, int], train: bool, augment: dict) -> Callable[[Image.Image], Tensor]:
    """timm's transform up to a uint8 tensor (3, H, W), without its normalization."""
    erasing = [key for key in augment if key in _ERASING]
    if erasing:
        raise ValueError(f'augment has {", ".join(erasing)}: random erasing works on normalized batches here, set '
                         'random_erasing of mae_backbone.ViTClassifier instead')
    allowed = _TRAIN_OPTIONS if train else _EVAL_OPTIONS
    unknown = [key for key in augment if key not in allowed]
    if unknown:
        raise ValueError(f'augment has {", ".join(unknown)}; with train={train} it takes {", ".join(allowed)}')
    defaults = {'color_jitter': None} if train else {'crop_pct': 0.875 if 128 <= max(size) <= 224 else 1.0}
    transform = create_transform((3, *size), is_training=train, normalize=False,
                                 **({'interpolation': 'bicubic'} | defaults | augment))
    for step in transform.transforms:
        for op in [*getattr(step, 'ops', []), *chain.from_iterable(getattr(step, 'policy', []))]:
            if op.name.startswith('Posterize'):
                op.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_) -> Image.Image:
    """timm's strongest magnitudes ask for 0 bits, which Pillow 13 refuses and earlier ones answered with black."""
    return ImageOps.posterize(image, min(max(bits, 1), 8))


def _part(rows: np.ndarray, fraction: float, seed: tuple[int, int]) -> np.ndarray:
    """A random share of rows in their order, at least one: the first ones of a shuffle that `seed` fixes."""
    count = max(1, round(fraction * len(rows)))
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])]
