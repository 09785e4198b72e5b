"""Reads the headers of all image files of a data set, and the pixels of a sample."""
import hashlib
import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mae_backbone.data.decode import BadImageError, decode_bgr, decode_crop, image_size
from mae_backbone.data.files import open_regular, read_file
from mae_backbone.data.readers import TiffReader
from mae_backbone.data.tiff_header import tiff_shape
from mae_backbone.formats.image_headers import read_size
from mae_backbone.planning.scan_cache import FileStamp, Progress, ScanCache

# Names of the measurements in the cache and in the progress line. The number is a version. Increase it if the values of
# a measurement change.
HEADERS, PIXELS, THUMBNAILS, CONTENTS = 'headers 4', 'pixels 3', 'thumbnails 2', 'contents 1'
_PREFIX = 2 ** 16      # number of bytes at the start of a file from which its digest is computed
_READ_SIZE = 2 ** 20   # bytes that are read at a time
THUMBNAIL = 16         # height and width in pixels of the gray thumbnails that are compared
_PATCH = 8             # height and width in pixels of the patches that are tested for contrast
_FLAT = 0.02           # a patch is flat if its standard deviation is below this fraction of the value range; our choice
_MAX_MEASURED = 2048   # largest height and width in pixels of the center crop that is measured
# Number of channels and bits per channel by mode of PIL.
_MODES = {'1': (1, 1), 'L': (1, 8), 'P': (3, 8), 'LA': (2, 8), 'PA': (3, 8), 'RGB': (3, 8), 'RGBA': (4, 8),
          'CMYK': (4, 8), 'YCbCr': (3, 8), 'LAB': (3, 8), 'HSV': (3, 8), 'I;16': (1, 16), 'I;16B': (1, 16),
          'I;16L': (1, 16), 'I': (1, 16), 'F': (1, 32)}


class ImageHeader(NamedTuple):
    """Header of an image file, and a digest of its first bytes."""

    path: str
    width: int     # in pixels, after EXIF orientation
    height: int
    channels: int
    bits: int      # bits per channel
    bytes: int     # size of the file
    digest: str    # hash of the first 64 kB
    error: str     # reason why the file cannot be read, or ''


class PixelSample(NamedTuple):
    """Statistics of the pixels of an image with C channels."""

    mean: np.ndarray        # (C,) mean of each channel
    square: np.ndarray      # (C,) mean square of each channel
    median: float           # median of all values
    low: float              # 0.5th percentile of all values
    high: float             # 99.5th percentile of all values
    flat: float             # fraction of patches of 8 x 8 pixels whose standard deviation is below 2 % of the range
    gray: bool              # True if all channels are equal
    border: float           # fraction of the area in rows and columns at the edges that have a single value
    clipped_mean: np.ndarray    # (C,) mean of each channel after clipping all values to `low` and `high`
    clipped_square: np.ndarray  # (C,) mean square of each channel after clipping


def read_headers(cache: ScanCache, files: Sequence[FileStamp], *, workers: int, progress: Progress
                 ) -> list[ImageHeader]:
    """Reads the headers of image files. If a file cannot be read, its `error` is the reason."""
    rows = cache.measure(HEADERS, files, _header, workers=workers, progress=progress, failed=lambda row: bool(row[5]))
    return [ImageHeader(stamp.path, row[0], row[1], row[2], row[3], stamp.size, row[4], row[5])
            for stamp, row in zip(files, rows, strict=True)]


def read_pixels(cache: ScanCache, files: Sequence[FileStamp], *, workers: int, progress: Progress
                ) -> list[PixelSample]:
    """Measures the pixels of image files. Files that cannot be decoded are skipped."""
    rows = cache.measure(PIXELS, files, _pixels, workers=workers, progress=progress)
    return [PixelSample(np.array(row[0]), np.array(row[1]), row[2], row[3], row[4], row[5], bool(row[6]), row[7],
                        np.array(row[8]), np.array(row[9])) for row in rows if row]


def read_thumbnails(cache: ScanCache, files: Sequence[FileStamp], *, workers: int, progress: Progress) -> np.ndarray:
    """Reads gray thumbnails (N, 16, 16) uint8 of image files. They are 0 if a file cannot be decoded."""
    rows = cache.measure(THUMBNAILS, files, _thumbnail, workers=workers, progress=progress)
    blank = bytes(THUMBNAIL ** 2)
    content = b''.join(bytes.fromhex(row[0]) if row else blank for row in rows)
    return np.frombuffer(content, np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL)


def read_digests(cache: ScanCache, files: Sequence[FileStamp], *, workers: int, progress: Progress) -> list[str]:
    """Computes digests of the whole content of files. They are '' if a file cannot be read."""
    rows = cache.measure(CONTENTS, files, _digest, workers=workers, progress=progress, failed=lambda row: not row[0])
    return [row[0] for row in rows]


def load_pixels(path: str) -> np.ndarray:
    """Reads all channels of an image (H, W, C) without scaling. Three channels are RGB.

    Raises:
        BadImageError, OSError: the file cannot be decoded.
    """
    if path.lower().endswith('.npy'):
        return _load_array(path)
    if _is_tiff(path):
        array = _load_tiff(path)
        if array is not None:
            return array
    pixels = decode_bgr(read_file(path))
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels[..., None]


# ---- one file, in a thread


def _header(path: str) -> list:
    try:
        with open_regular(path) as file:
            digest = hashlib.blake2b(file.read(_PREFIX), digest_size=12).hexdigest()
        return [*_stored(path), digest, '']
    except (BadImageError, OSError, ValueError, SyntaxError, MemoryError) as error:
        text = str(error)
        return [0, 0, 0, 0, '', text if path in text else f'{path}: {text or type(error).__name__}']
    except Exception as error:  # PIL raises many kinds of errors for broken files
        return [0, 0, 0, 0, '', f'{path}: {type(error).__name__}: {error}']


def _stored(path: str) -> tuple[int, int, int, int]:
    """Returns width, height, channels and bits of an image."""
    if path.lower().endswith('.npy'):
        array = _open_array(path)
        height, width, channels = (*array.shape, 1)[:3] if array.ndim in (2, 3) else (0, 0, 0)
        if not height:
            raise BadImageError(f'{path} has the shape {array.shape}, expected (height, width) or (height, width, '
                                'channels)')
        _check_numbers(path, array.dtype.name)
        return width, height, channels, array.dtype.itemsize * 8
    tiff = tiff_shape(path) if _is_tiff(path) else None
    if tiff is not None and tiff.dtype != 'bool':
        _check_numbers(path, tiff.dtype)
    if tiff is not None and tiff.has_bands:
        return tiff.width, tiff.height, tiff.channels, tiff.bits
    width, height = read_size(path).upright
    try:
        with open_regular(path) as file, Image.open(file) as image:
            channels, bits = _MODES.get(image.mode, (3, 8))
            if image.format == 'PNG' and image.mode in ('RGB', 'RGBA'):
                # PIL reads 16 bits of a PNG as 8. The bit depth is the byte after width and height in the header.
                file.seek(24)
                bits = max(bits, int.from_bytes(file.read(1), 'big'))
    except OSError:  # a format that only OpenCV reads
        channels, bits = 3, 8
    if tiff is not None:  # PIL reports 8 bits for color TIFF files of 16 bits
        bits = tiff.bits
    return width, height, channels, bits


def _check_numbers(path: str, dtype: str) -> None:
    if dtype not in ('uint8', 'uint16'):
        raise BadImageError(f'{path} holds {dtype} numbers, expected uint8 or uint16: scale them and save it again')


def _is_tiff(path: str) -> bool:
    return path.lower().endswith(('.tif', '.tiff'))


def _open_array(path: str) -> np.ndarray:
    try:
        return np.load(path, mmap_mode='r', allow_pickle=False)
    except (ValueError, EOFError) as error:  # NumPy would advise to load it with pickle
        raise BadImageError(f'{path} is not a NumPy file (.npy) of numbers: replace or remove it') from error


def _load_array(path: str) -> np.ndarray:
    array = _open_array(path)
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number):
        raise BadImageError(f'{path} has the shape {array.shape} and the type {array.dtype}, expected numbers in '
                            '(height, width, channels)')
    return array if array.ndim == 3 else array[..., None]


def _load_tiff(path: str) -> np.ndarray | None:
    """Returns the channels (H, W, C) of a TIFF with bands; None for gray and color images of 8 bits."""
    shape = tiff_shape(path)
    if shape is None or not shape.has_bands:
        return None
    return TiffReader(shape.channels, dtype=f'uint{shape.bits}').pixels(read_file(path))


def _pixels(path: str) -> list:
    try:
        pixels = load_pixels(path)
        top, left = (max(0, (side - _MAX_MEASURED) // 2) for side in pixels.shape[:2])
        values = np.ascontiguousarray(pixels[top:top + _MAX_MEASURED, left:left + _MAX_MEASURED])
        flat = values.reshape(-1, values.shape[2])
        mean, square = _moments(flat)
        low, median, high = np.percentile(flat[::max(1, len(flat) // 100_000)], (0.5, 50, 99.5))
        # In the type of the pixels: float64 would take four times the memory of 16 bits.
        clipped = flat.clip(*np.array([np.floor(low), np.ceil(high)]).astype(flat.dtype))
        gray = values.shape[2] == 1 or bool((values == values[..., :1]).all())
        row = [mean.tolist(), square.tolist(), float(median), float(low), float(high),
               _flat_fraction(values, high), gray, _border_fraction(values),
               *(moments.tolist() for moments in _moments(clipped))]
        return row if np.isfinite([*row[0], *row[1], *row[2:5]]).all() else []
    except (BadImageError, OSError, ValueError, MemoryError, cv2.error):
        return []


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (C,) and the mean square (C,) of values (N, C)."""
    square = np.einsum('pc,pc->c', values, values, dtype=np.float64, casting='unsafe') / len(values)
    return values.mean(axis=0, dtype=np.float64), square


def _flat_fraction(values: np.ndarray, high: float) -> float:
    """Returns the fraction of patches without contrast.

    Args:
        values: pixels (H, W, C).
        high: largest value (99.5th percentile), used as the value range of images with more than 8 bits.
    """
    height, width = (side // _PATCH * _PATCH for side in values.shape[:2])
    if not height or not width:
        return 0.0
    gray = values[:height, :width].mean(axis=2, dtype=np.float32)
    patches = gray.reshape(height // _PATCH, _PATCH, width // _PATCH, _PATCH)
    value_range = 255.0 if values.dtype == np.uint8 else max(high, 1e-6)
    return float((patches.std(axis=(1, 3)) < _FLAT * value_range).mean())


def _border_fraction(values: np.ndarray) -> float:
    """Returns the fraction of the area of an image (H, W, C) in rows and columns at the edges with a single value."""
    gray = values[..., 0]
    inside = [np.flatnonzero(gray.max(axis=axis) > gray.min(axis=axis)) for axis in (1, 0)]
    if not all(map(len, inside)):
        return 1.0
    spans = [int(indices[-1] - indices[0] + 1) for indices in inside]
    return 1.0 - spans[0] * spans[1] / (gray.shape[0] * gray.shape[1])


def _thumbnail(path: str) -> list:
    try:
        if path.lower().endswith('.npy') or _has_bands(path):
            return []
        data = read_file(path)
        height, width = image_size(data)
        pixels = decode_crop(data, (0, 0, height, width), (2 * THUMBNAIL, 2 * THUMBNAIL), interpolation='bilinear')
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        return [cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).tobytes().hex()]
    except (BadImageError, OSError, ValueError, MemoryError, cv2.error):
        return []


def _has_bands(path: str) -> bool:
    shape = tiff_shape(path) if _is_tiff(path) else None
    return shape is not None and shape.has_bands


def _digest(path: str) -> list:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_regular(path) as raw, io.BufferedReader(raw) as file:
            while block := file.read(_READ_SIZE):
                digest.update(block)
    except OSError:
        return ['']
    return [digest.hexdigest()]


def stamps(paths: Sequence[str]) -> list[FileStamp]:
    """Returns the current size and time of files, with absolute paths."""
    return [FileStamp.of(os.path.abspath(path)) for path in paths]
