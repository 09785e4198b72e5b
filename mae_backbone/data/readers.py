"""How the bytes of a file become pixels: photographs in color by default; a config may name another reader."""
import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.lib import format as npy

from mae_backbone.data import decode
from mae_backbone.data.decode import BadImageError, Box, check_box
from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.data.resize import resize
from mae_backbone.registry import TRANSFORMS

_MOST_CHANNELS = 16


class Reader(Protocol):
    """What pretraining asks of a reader; register one of your own with `TRANSFORMS` and name it in the config."""

    channels: int  # of the pixels that it gives
    dtype: np.dtype  # of the pixels that it gives: uint8 or uint16
    suffixes: tuple[str, ...]  # of the files that it can read, in lower case

    def size(self, data: bytes) -> tuple[int, int]:
        """Height and width of the image in a file's bytes. Raises BadImageError."""

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        """The part in `box` (top, left, height, width), resized to `size` = (H, W): (H, W, channels).

        It is written into `out` where that is given. Raises BadImageError with a message that follows the name of the
        file.
        """


@TRANSFORMS.register_module(name=['ColorReader', 'ColourReader'])  # the second: configs of version 0.1
class ColorReader:
    """Files of any format that OpenCV knows, as viewers show them: 3 channels (RGB), 8 bits."""

    channels = 3
    dtype = np.dtype(np.uint8)
    suffixes = IMAGE_SUFFIXES

    def size(self, data: bytes) -> tuple[int, int]:
        return decode.image_size(data)

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        return decode.decode_crop(data, box, size, interpolation=interpolation, out=out)


class BandReader:
    """Any number of channels of 8 or 16 bits; what is to be said about the files of a set is said once, in the config.

    Args:
        channels: how many channels each file has, or a list of those to take, counted from 0: [3, 2, 1] makes colors
            of a Sentinel-2 image, whose first channels are B1 to B4.
        dtype: 'uint8' or 'uint16', as in the files.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(self, channels: int | Sequence[int] = 3, *, dtype: str = 'uint8') -> None:
        self.taken = None if isinstance(channels, int) else tuple(channels)
        self.channels = channels if self.taken is None else len(self.taken)
        if not 1 <= self.channels <= _MOST_CHANNELS or any(channel < 0 for channel in self.taken or ()):
            raise ValueError(f'channels={channels}, wanted a number in 1..{_MOST_CHANNELS}, or a list of up to '
                             f'{_MOST_CHANNELS} channels counted from 0')
        if dtype not in ('uint8', 'uint16'):
            raise ValueError(f"dtype={dtype!r}, wanted 'uint8' or 'uint16'")
        self.dtype = np.dtype(dtype)

    def size(self, data: bytes) -> tuple[int, int]:
        return self.pixels(data).shape[:2]

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        pixels = self.pixels(data)
        check_box(box, pixels.shape[:2])
        top, left, height, width = box
        crop = pixels[top:top + height, left:left + width]
        crop = crop if self.taken is None else crop[..., self.taken]
        # Of the byte order of this machine, which torch asks for, and in memory that may be written to.
        crop = np.require(crop, self.dtype, ['C', 'W'])
        return resize(crop, (0, 0, height, width), size, interpolation=interpolation, out=out)

    def pixels(self, data: bytes) -> np.ndarray:
        """The bytes of a file -> all that is in it, (H, W, C) after `check`. Raises BadImageError."""
        raise NotImplementedError

    def check(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Raises BadImageError if pixels of this shape (H, W, C) and type are not what the config says."""
        if dtype.newbyteorder('=') != self.dtype:
            raise BadImageError(f'holds {dtype} numbers, wanted {self.dtype}: '
                           + (f"set dtype='{dtype.newbyteorder('=')}' in the reader of the config"
                              if dtype.kind == 'u' and dtype.itemsize <= 2 else
                              'scale them to 8 or 16 bits without a sign and save anew'))
        if 0 in shape:
            raise BadImageError(f'is empty, {shape[0]}x{shape[1]} with {shape[2]} channels: remove it')
        if self.taken is None and shape[2] != self.channels:
            raise BadImageError(f'has {shape[2]} channels, wanted {self.channels}: set channels={shape[2]} in '
                                'the reader of '
                           f'the config, and in_channels in its model, or channels=[...] to take some of them')
        if self.taken is not None and max(self.taken) >= shape[2]:
            raise BadImageError(f'has {shape[2]} channels, counted from 0, wanted number {max(self.taken)}: correct '
                           f'channels={list(self.taken)} in the reader of the config')


@TRANSFORMS.register_module()
class ArrayReader(BandReader):
    """NumPy files (.npy) with one image each, (H, W) or (H, W, C). What is pickled in them is never loaded.

    Args:
        channels, dtype: see `BandReader`.
        channels_first: files hold (C, H, W).
    """

    suffixes = ('.npy',)

    def __init__(self, channels: int | Sequence[int] = 3, *, dtype: str = 'uint8',
                 channels_first: bool = False) -> None:
        super().__init__(channels, dtype=dtype)
        self.channels_first = channels_first

    def pixels(self, data: bytes) -> np.ndarray:
        shape, by_columns, dtype, start = _array_header(data)
        if len(shape) not in (2, 3):
            raise BadImageError(f'is an array of shape {shape}, wanted (H, W) or (H, W, C): save one image in '
                                'each file')
        # Shape and type are checked before numbers are looked at: an array of objects is refused here.
        planes = (*shape, 1) if len(shape) == 2 else shape
        first = self.channels_first and len(shape) == 3
        try:
            self.check((planes[1], planes[2], planes[0]) if first else planes, dtype)
        except BadImageError as error:
            swapped = planes[-1] if first else planes[0]
            hint = f'; or is channels_first={not first} meant? Its shape is {shape}'
            message = f'{error}{hint}' if len(shape) == 3 and swapped == self.channels else str(error)
            raise BadImageError(message) from error
        count = int(np.prod(shape, dtype=object))
        if len(data) < start + count * dtype.itemsize:
            raise BadImageError(f'is a NumPy array cut off after {len(data)} bytes: replace or remove it')
        pixels = np.frombuffer(data, dtype, count, start).reshape(planes, order='F' if by_columns else 'C')
        return np.moveaxis(pixels, 0, -1) if first else pixels


def _array_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """The bytes of a .npy file -> shape, whether columns come first, type, and where the numbers begin."""
    file = io.BytesIO(data)
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, by_columns, dtype = read(file)
    except Exception as error:  # NumPy parses the header with Python's own parser, which fails in many ways
        raise BadImageError(f'is no NumPy file (.npy), it begins with {data[:12]!r}: remove or convert it') from error
    return shape, by_columns, dtype, file.tell()


@TRANSFORMS.register_module()
class TiffReader(BandReader):
    """TIFF and GeoTIFF files, with channels beside each other, in planes or in pages. Needs the extra `geotiff`.

    Of a file with several images comes the first; overviews are left alone.

    Args:
        channels, dtype: see `BandReader`.
    """

    suffixes = ('.tif', '.tiff')

    def __init__(self, channels: int | Sequence[int] = 3, *, dtype: str = 'uint8') -> None:
        super().__init__(channels, dtype=dtype)
        missing = [name for name in ('tifffile', 'imagecodecs') if find_spec(name) is None]
        if missing:
            raise ValueError(f'TiffReader needs {" and ".join(missing)}: python -m pip install {" ".join(missing)}, or '
                             'this package with its extra geotiff')

    def size(self, data: bytes) -> tuple[int, int]:
        return self._read(data, pixels=False)[:2]

    def pixels(self, data: bytes) -> np.ndarray:
        return self._read(data, pixels=True)

    def _read(self, data: bytes, *, pixels: bool) -> np.ndarray | tuple[int, ...]:
        """Pixels (H, W, C), or their shape alone."""
        import tifffile
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                series = file.series[0]
                axes = series.axes
                order = [axes.index('Y'), axes.index('X'), *(i for i, axis in enumerate(axes) if axis not in 'YX')]
                height, width, *others = (series.shape[i] for i in order)
                shape = height, width, int(np.prod(others, dtype=object))
                self.check(shape, series.dtype)
                ends = [at + size for page in series.pages for at, size in
                        zip(page.dataoffsets, page.databytecounts, strict=True)]
                if max(ends, default=0) > len(data):
                    raise BadImageError(f'is a TIFF cut off after {len(data)} bytes: replace or remove it')
                return series.asarray(maxworkers=1).transpose(order).reshape(shape) if pixels else shape
        except BadImageError:
            raise
        except Exception as error:  # of a broken file any part of tifffile may fail, each in its own way
            raise BadImageError(f'is no TIFF that tifffile can read ({type(error).__name__}: {error}): replace '
                                'or remove '
                           'it') from error
