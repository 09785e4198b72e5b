"""Image files to tensors: folders without labels for pretraining, folders of classes for classification.

Images leave this file as uint8 (3, H, W) in RGB, 0 to 255: the model's data preprocessor normalises them on its device.
"""
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import RandomResizedCrop

from mae_backbone.registry import DATASETS

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.png', '.webp', '.bmp', '.tif', '.tiff', '.ppm', '.pgm', '.jp2')
_LOG = logging.getLogger(__name__)


class BadImage(ValueError):
    """A file that cannot be read as an image, or a set with too many of them."""


# ---- files

def list_images(root: str | Path) -> list[Path]:
    """All files under `root` with a suffix of IMAGE_SUFFIXES (in any case), sorted.

    Linked folders are followed, each folder once, so that a loop of links ends. Hidden files and folders (`._a.jpg`,
    `.ipynb_checkpoints`) are left out, as is what is not a file (pipes, devices).

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is not a folder.
        PermissionError: a folder may not be read.
        ValueError: there is no image.
    """
    root = _folder(root)
    images, others, visited, todo = [], Counter(), set(), [str(root)]
    while todo:
        folder = todo.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        for entry in _entries(folder):
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.is_dir():
                todo.append(entry.path)
            elif suffix not in IMAGE_SUFFIXES:
                others[suffix or '(none)'] += 1
            elif entry.is_file() or entry.is_symlink():  # a broken link stays: reading it says which file is missing
                images.append(entry.path)
    if not images:
        raise ValueError(_no_images(root, others))
    return [Path(path) for path in sorted(images)]


def _folder(root: str | Path) -> Path:
    root = Path(root).expanduser()
    advice = 'give the folder that holds the images: --data-root DIR, or data_root in the config'
    if not root.exists():
        raise FileNotFoundError(f'{root.absolute()} does not exist: {advice}')
    if not root.is_dir():
        raise NotADirectoryError(f'{root.absolute()} is a file, wanted a folder: {advice}')
    return root


def _entries(folder: str | Path) -> list[os.DirEntry]:
    """What is in a folder, without hidden names."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith('.')]
    except PermissionError as error:
        raise PermissionError(f'{folder} may not be read by this user: ask its owner for read and execute permission '
                              '(chmod u+rx), or choose another --data-root DIR') from error


def _no_images(root: Path, others: Counter) -> str:
    seen = ', '.join(f'{count} {suffix}' for suffix, count in others.most_common(8)) or 'none at all'
    return (f'{root.absolute()} holds no images; other files there: {others.total()} ({seen}). Images end in '
            f'{" ".join(IMAGE_SUFFIXES)}: convert the files, or choose another folder with --data-root DIR')


def _packed(paths: Iterable[Path]) -> np.ndarray:
    """Paths as one array: a list of a million objects would be copied into each worker as their counts change."""
    return np.array([os.fsencode(path) for path in paths])


# ---- pixels

def read_image(path: str | Path) -> np.ndarray:
    """An image file -> pixels (H, W, 3) uint8 in RGB; the content decides on the format, not the suffix.

    Grey, palette and CMYK become RGB, 16 bits keep their upper 8, an alpha channel is dropped (OpenCV multiplies it in
    for some TIFF). The orientation in the EXIF data of JPEG, PNG and TIFF is applied; OpenCV ignores that of WebP. Of a
    file with many pages comes the first.

    Raises:
        BadImage: the file is empty, cut off, not an image, or holds numbers other than 8 or 16 bits.
        OSError: the file cannot be read at all.
    """
    data = Path(path).read_bytes()  # and not cv2.imread, which fails on unicode names on Windows
    fault = _fault(data)
    if fault:
        raise BadImage(f'{path} {fault}: replace or remove it')
    try:
        # Any depth, as OpenCV would squeeze floats of unknown range into 8 bits without a word.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise BadImage(f'{path} is refused by OpenCV: {error.err}: convert or remove it') from error
    if pixels is None:
        raise BadImage(f'{path} is no image that OpenCV can decode, it begins with {data[:12]!r}: convert it to '
                       'PNG or JPEG of 8 bits, or remove it')
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise BadImage(f'{path} holds {pixels.dtype} numbers, wanted 8 or 16 bits: scale them to 0..255 and save anew')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _fault(data: bytes) -> str:
    """What is wrong with a file before it is decoded: versions of OpenCV fill what is cut off with grey."""
    if not data:
        return 'is empty (0 bytes)'
    if data.startswith(b'\xff\xd8') and data.rfind(b'\xff\xd9', _jpeg_scan(data)) < 0:
        return f'is a JPEG cut off after {len(data)} bytes (no end marker)'
    if data.startswith(b'\x89PNG') and data.rfind(b'IEND') < 0:
        return f'is a PNG cut off after {len(data)} bytes (no end marker)'
    return ''


def _jpeg_scan(data: bytes) -> int:
    """Where the first scan of a JPEG begins, past the header with its preview, which has an end marker of its own."""
    at = 2
    while data[at:at + 1] == b'\xff' and data[at + 1:at + 2] != b'\xda':
        fill = data[at + 1:at + 2] == b'\xff'  # ITU T.81 B.1.1.2: any number of 0xff may stand before a marker
        at += 1 if fill else 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    return at


def _size(image_size: int | Sequence[int]) -> tuple[int, int]:
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'image_size={image_size!r}, wanted a number of pixels or a pair (height, width) of them')
    return size


# ---- pretraining

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
        self.image_size, self.scale, self.flip = _size(image_size), scale, flip
        self.interpolation, self.max_bad_share = interpolation, max_bad_share
        self.files = _packed(_spread(list_images(data_root), indices))
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


# ---- classification

_ERASING = ('re_prob', 're_mode', 're_count', 're_num_splits')
_TRAIN_OPTIONS = ('no_aug', 'train_crop_mode', 'scale', 'ratio', 'hflip', 'vflip', 'color_jitter', 'color_jitter_prob',
                  'grayscale_prob', 'gaussian_blur_prob', 'auto_augment', 'interpolation')
_EVAL_OPTIONS = ('crop_pct', 'crop_mode', 'crop_border_pixels', 'interpolation')


@DATASETS.register_module()
class ClassFolder(Dataset):
    """Labelled images in `data_root/split/CLASS/`; an item is dict(inputs=uint8 (3, H, W), data_samples=label).

    The labels follow the order of `classes`, or else of the sorted folders of `data_root/train` where there is one: a
    class that another split lacks stops the run, instead of shifting all labels after it. timm's transforms draw from
    Python's and NumPy's generators too, which MMEngine's Runner seeds in each worker.

    Args:
        data_root: folder of the splits.
        split: such as 'train' or 'val'; '' where the class folders stand in `data_root` itself.
        image_size: side of the output, or (height, width), in pixels.
        train: random crops and flips; else the shorter side is resized to image_size / crop_pct, and the centre cut
            out.
        augment: options of `timm.data.create_transform`.
            For training such as dict(auto_augment='rand-m9-mstd0.5-inc1'); by default crops and flips alone, as the
            paper's linear probe (appendix A.1).
            For evaluation such as dict(crop_pct=.95); by default .875 at 128 to 224 pixels and 1 above, as in the
            public MAE code (`util/datasets.py`), and 1 below, as sets of small images come cut out already.
        classes: names of the class folders in the order of their labels.
        fraction: share of the images of each class, in (0, 1], at least one of each; a smaller one is a subset of a
            larger one with the same seed.
        seed: of that choice.

    Raises:
        BadImage: an image cannot be read, when its item is taken.
        FileNotFoundError, ValueError: folders or options that are missing, empty or unknown.
    """

    def __init__(self, data_root: str | Path, split: str = 'train', *, train: bool,
                 image_size: int | Sequence[int] = 224, augment: dict | None = None,
                 classes: Sequence[str] | None = None, fraction: float = 1.0, seed: int = 0) -> None:
        if not 0 < fraction <= 1:
            raise ValueError(f'fraction={fraction}, wanted a share of the images in (0, 1], such as .1')
        self.transform = _transform(_size(image_size), train, augment or {})
        root = _folder(data_root)
        folder = _split_folder(root, split)
        self.classes = _classes(folder, classes, train=root / 'train' if split else folder)
        files = [list_images(folder / name) for name in self.classes]
        chosen = [_part(paths, fraction, (seed, label)) for label, paths in enumerate(files)]
        self.files = _packed(path for paths in chosen for path in paths)
        self.labels = np.repeat(np.arange(len(chosen)), [len(paths) for paths in chosen])

    @property
    def metainfo(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes in the order of their labels, under the key that MMEngine's datasets have."""
        return {'classes': self.classes}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        image = Image.fromarray(read_image(os.fsdecode(self.files[index])))
        return {'inputs': self.transform(image), 'data_samples': int(self.labels[index])}


def evaluation_transform(image_size: int | Sequence[int],
                         augment: dict | None = None) -> Callable[[np.ndarray], Tensor]:
    """What `ClassFolder` does to an image (H, W, 3) uint8 RGB when it does not train -> uint8 (3, H', W')."""
    transform = _transform(_size(image_size), False, augment or {})
    return lambda image: transform(Image.fromarray(image))


def _transform(size: tuple[int, int], train: bool, augment: dict) -> Callable[[Image.Image], Tensor]:
    """timm's transform up to a uint8 tensor (3, H, W), without its normalisation."""
    erasing = [key for key in augment if key in _ERASING]
    if erasing:
        raise ValueError(f'augment has {", ".join(erasing)}: random erasing works on normalised batches here, set '
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


def _split_folder(root: Path, split: str) -> Path:
    folder = root / split
    if not folder.is_dir():
        there = ', '.join(_folders(root)) or 'none'
        raise FileNotFoundError(f'{root.absolute()} has no folder {split!r}; folders there: {there}. Set split to one '
                                "of them, or to '' where they are the classes, or give another --data-root DIR")
    return folder


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _entries(folder) if entry.is_dir()))


def _classes(folder: Path, wanted: Sequence[str] | None, *, train: Path) -> tuple[str, ...]:
    """Names of the class folders in the order of their labels: the `wanted` ones, or else those of training."""
    found, source = _folders(folder), 'the list classes'
    if not found:
        raise ValueError(f'{folder.absolute()} has no class folders: put the images of each class into a folder of its '
                         'name there, or give another --data-root DIR')
    if wanted is None:
        wanted, source = _folders(train) if train.is_dir() else found, train.absolute()
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra or len(wanted) != len(found):
        raise ValueError(f'{folder.absolute()} has {len(found)} class folders that are not the {len(wanted)} of '
                         f'{source}: missing {missing}, not wanted {extra}. Both must name the same classes, each '
                         'once: rename, move or add folders, or set classes')
    return tuple(wanted)


def _part(files: list[Path], fraction: float, seed: tuple[int, int]) -> list[Path]:
    """A random share of the files in their order, at least one: the first ones of a shuffle that `seed` fixes."""
    count = max(1, round(fraction * len(files)))
    return [files[i] for i in sorted(np.random.default_rng(seed).permutation(len(files))[:count])]
