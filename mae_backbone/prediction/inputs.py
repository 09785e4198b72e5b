"""Reads images from paths, folders, videos, arrays and tensors as pixels (H, W, 3) uint8 RGB."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mae_backbone.data.decode import DEFAULT, Decoding
from mae_backbone.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, list_images
from mae_backbone.data.readers import BandReader
from mae_backbone.data.reading import Reading, read_pixels
from mae_backbone.prediction.video import VideoReader

# A path, an array (H, W, 3) or (H, W) uint8, a PIL image, or a tensor (3, H, W) uint8 or float in 0..1.
ImageLike: TypeAlias = str | Path | np.ndarray | Image.Image | Tensor
_ARRAYS = 'expected (H, W, 3) uint8 in RGB order, or (H, W) uint8 gray'
_TENSORS = 'expected (3, H, W) RGB, uint8 or float in 0..1'


class Source(NamedTuple):
    """An image to predict.

    Attributes:
        image: a path, or the image itself.
        path: path of the file or video; None for an image in memory.
        frame: index in a video; None otherwise.
        seconds: time in a video; None otherwise.
    """

    image: ImageLike
    path: Path | None = None
    frame: int | None = None
    seconds: float | None = None

    def read(self, reading: Reading = DEFAULT) -> np.ndarray:
        """Returns the pixels (H, W, 3) uint8 RGB, or (H, W, channels) of a reader of bands."""
        return to_pixels(self.image, reading)


def is_single(images: object) -> bool:
    """True if `images` is one image, and not a folder, a video, a batch or a sequence of images."""
    if isinstance(images, (str, Path)):
        path = Path(images)
        return not path.is_dir() and path.suffix.lower() not in VIDEO_SUFFIXES
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim < 4
    return not isinstance(images, Sequence) and not hasattr(images, '__next__')


def sources(images: ImageLike | Sequence[ImageLike] | Iterator[ImageLike],
            suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Iterator[Source]:
    """Yields the images of a path, folder, video, batch or sequence.

    Args:
        images: see `ImageLike`.
        suffixes: suffixes of the files that are images of a folder.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder has no images, or a video cannot be read.
    """
    if isinstance(images, (str, Path)):
        path = Path(images)
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist: pass an image, a folder of images, or a video')
        if path.is_dir():
            yield from (Source(file, file) for file in list_images(path, suffixes))
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            reader = VideoReader(path)
            yield from (Source(frame, path, index, index / reader.rate) for index, frame in enumerate(reader))
        else:
            yield Source(path, path)
    elif is_single(images):
        yield Source(images)  # type: ignore[arg-type]  # `images` is a single image
    else:
        for image in images:  # type: ignore[union-attr]  # `images` is iterable
            yield Source(image, Path(image) if isinstance(image, (str, Path)) else None)


def count(images: object, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> int | None:
    """Returns the number of images of `sources(images)`; None if it is not known before they are read."""
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        return len(list_images(images, suffixes))
    if is_single(images):
        return 1
    return len(images) if hasattr(images, '__len__') and not isinstance(images, str) else None


def to_pixels(image: ImageLike, reading: Reading = DEFAULT) -> np.ndarray:
    """Converts an image in any form to pixels (H, W, 3) uint8 RGB, or (H, W, channels) for a reader of bands.

    Arrays must be RGB. OpenCV returns BGR: reverse the last axis of its arrays. Tensors of floats must be in 0..1, and
    are rounded to 8 bits. The EXIF orientation of files and PIL images is applied, unless `reading` ignores it.

    Args:
        image: see `ImageLike`.
        reading: decoding of files, and of PIL images with 16 bits. With a reader of bands, other images must be arrays
            (H, W, C) or tensors (C, H, W) with the channels and the type of the reader.

    Raises:
        BadImageError, OSError: a file cannot be read.
        ValueError: the shape, type or range of values is wrong.
    """
    if isinstance(image, (str, Path)):
        return read_pixels(image, reading)
    if not isinstance(reading, Decoding):
        return _bands(image, reading)
    if isinstance(image, np.ndarray):
        return _array(image)
    if isinstance(image, Tensor):
        return _tensor(image)
    if isinstance(image, Image.Image):
        upright = image if reading.ignore_orientation else ImageOps.exif_transpose(image)
        if upright.mode.startswith('I;16'):
            return _array(reading.to_8_bits(np.asarray(upright).astype(np.uint16)))
        if upright.mode in ('I', 'F'):
            raise ValueError(f'the PIL image has the mode {upright.mode}, whose range is unknown: scale it to 0..255 '
                             'and convert it to RGB')
        return np.array(upright.convert('RGB'))
    raise ValueError(f'an image is a {type(image).__name__}: pass a path, an array, a PIL image or a tensor')


def _array(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ValueError(f'the array has the type {image.dtype} and the shape {image.shape}, {_ARRAYS}: scale it to '
                         '0..255 and convert it with .astype(np.uint8)')
    if image.ndim == 2:
        image = np.stack([image] * 3, axis=-1)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = ': move the channels with .transpose(1, 2, 0)' if image.ndim == 3 and image.shape[0] == 3 else ''
        hint = ': drop the alpha channel with [..., :3]' if image.ndim == 3 and image.shape[2] == 4 else hint
        raise ValueError(f'the array has the shape {image.shape}, {_ARRAYS}{hint}')
    return np.ascontiguousarray(image)


def _bands(image: object, reader: BandReader) -> np.ndarray:
    """Checks an image in memory for a model with bands, and returns it as (H, W, channels)."""
    pixels = image.detach().cpu().permute(1, 2, 0).numpy() if isinstance(image, Tensor) and image.ndim == 3 else \
        np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] != reader.channels or pixels.dtype != reader.dtype or 0 in pixels.shape:
        raise ValueError(f'the image has the shape {pixels.shape} and the type {pixels.dtype}, expected (H, W, '
                         f'{reader.channels}) {reader.dtype}: pass the channels that the model was trained with')
    return np.ascontiguousarray(pixels)


def _tensor(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        hint = ': move the channels with .permute(2, 0, 1)' if image.ndim == 3 and image.shape[2] == 3 else ''
        raise ValueError(f'the tensor has the shape {tuple(image.shape)}, {_TENSORS}{hint}')
    image = image.detach().cpu()
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not 0 <= low <= high <= 1:  # also for NaN
            raise ValueError(f'the tensor has values from {low:.4g} to {high:.4g}, {_TENSORS}: divide 0..255 by 255; '
                             'do not normalize, because the model does it')
        image = (image.float() * 255).round().to(torch.uint8)
    elif image.dtype != torch.uint8:
        raise ValueError(f'the tensor has the type {image.dtype}, {_TENSORS}')
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def resized(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Resizes an image (H, W, C) to a tensor (C, *size). The aspect ratio is not kept."""
    interpolation = cv2.INTER_AREA if image.shape[0] > size[0] else cv2.INTER_CUBIC
    planes = [cv2.resize(image[..., start:start + 4], size[::-1], interpolation=interpolation).reshape(*size, -1)
              for start in range(0, image.shape[2], 4)]  # cv2.INTER_AREA accepts at most four channels
    return torch.from_numpy(np.concatenate(planes, axis=2)).permute(2, 0, 1)
