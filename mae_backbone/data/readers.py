"""Readers convert the content of image files to pixels. The default reads color images; a config can set another."""
import io
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.lib import format as npy

from mae_backbone.data import decode
from mae_backbone.data.decode import BadImageError, Box, check_box
from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.data.image_header import size_fault
from mae_backbone.data.resize import resize
from mae_backbone.registry import TRANSFORMS

_MAX_CHANNELS = 16
# Limits of a TIFF, which tifffile does not have: a page takes 0.1 ms to read, a tile is decoded as a whole.
_MAX_PAGES = 10_000
_MAX_CHUNK = 2**26  # values of a tile or strip that is larger than the image


class Reader(Protocol):
    """Interface of readers. Register your own with `TRANSFORMS` and name it in the config."""

    channels: int  # number of channels of the pixels
    dtype: np.dtype  # type of the pixels: uint8 or uint16
    suffixes: tuple[str, ...]  # suffixes of the files that it reads, in lower case

    def size(self, data: bytes) -> tuple[int, int]:
        """content of a file -> height and width of the image. Raises BadImageError."""

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        """content of a file -> crop at `box` (top, left, height, width) resized to `size` = (H, W): (H, W, channels).

        The result is written into `out` if it is given. The message of a BadImageError continues a sentence that starts
        with the file name.
        """


@TRANSFORMS.register_module(name=['ColorReader', 'ColourReader'])  # the second: configs of version 0.1
class ColorReader:
    """Reads all formats of OpenCV as RGB with 8 bits per channel, with EXIF orientation applied.

    Args:
        value_range: (low, high) of 16-bit images that become 0 and 255, such as (0, 4095) for 12 bits. By default the
            full range, 0 to 65,535.
        percentiles: (low, high) in 0..100, per 16-bit image, in place of `value_range`, such as (0.5, 99.5).
        max_pixels: maximum number of pixels of an image; larger ones count as unreadable. By default 250 megapixels and
            what the memory allows, see `image_header.max_pixels`.

    Raises:
        ValueError: an argument is out of range.
    """

    channels = 3
    dtype = np.dtype(np.uint8)
    suffixes = IMAGE_SUFFIXES

    def __init__(self, *, value_range: Sequence[int] | None = None, percentiles: Sequence[float] | None = None,
                 max_pixels: int | None = None) -> None:
        self.decoding = decode.Decoding(_pair(value_range), _pair(percentiles), max_pixels).check()

    def size(self, data: bytes) -> tuple[int, int]:
        """content of a file -> displayed height and width."""
        return decode.image_size(data, self.decoding)

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        """content of a file -> crop (H, W, 3), see `Reader.crop`."""
        return decode.decode_crop(data, box, size, interpolation=interpolation, out=out, decoding=self.decoding)


def is_unscaled(reader: Reader) -> bool:
    """True if a reader divides 16-bit values by 256."""
    return isinstance(reader, ColorReader) and reader.decoding[:2] == decode.DEFAULT[:2]


def _pair(numbers: Sequence | None) -> tuple | None:
    if numbers is not None and len(numbers) != 2:
        raise ValueError(f'{numbers!r}: expected two numbers (low, high)')
    return None if numbers is None else tuple(numbers)


class BandReader:
    """Base of readers for any number of channels with 8 or 16 bits.

    Args:
        channels: number of channels in each file, or a list of channels to take, counted from 0. [3, 2, 1] takes the
            colors of a Sentinel-2 image with B1 to B4 as its first channels.
        dtype: 'uint8' or 'uint16', as in the files.
        max_pixels: as in `ColorReader`.
        shown: three of the channels that are read, counted from 0, to show as red, green and blue in pictures. By
            default the first three, or the first one as gray.

    Raises:
        ValueError: an argument is out of range.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, channels: int | Sequence[int] = 3, *, dtype: str = 'uint8', max_pixels: int | None = None,
                 shown: Sequence[int] | None = None) -> None:
        self.max_pixels = max_pixels
        self.taken = None if isinstance(channels, int) else tuple(channels)
        self.channels: int = channels if isinstance(channels, int) else len(channels)
        if not 1 <= self.channels <= _MAX_CHANNELS or any(channel < 0 for channel in self.taken or ()):
            raise ValueError(f'channels={channels}, expected a number in 1..{_MAX_CHANNELS}, or a list of up to '
                             f'{_MAX_CHANNELS} channels counted from 0')
        if dtype not in ('uint8', 'uint16'):
            raise ValueError(f"dtype={dtype!r}, expected 'uint8' or 'uint16'")
        self.dtype = np.dtype(dtype)
        self.shown = None if shown is None else tuple(shown)
        if self.shown is not None and (len(self.shown) != 3 or not all(0 <= i < self.channels for i in self.shown)):
            raise ValueError(f'shown={shown}, expected three channels in 0..{self.channels - 1} for red, green and '
                             'blue')

    def __repr__(self) -> str:
        options = ', '.join(f'{name}={value}' for name, value in vars(self).items())
        return f'{type(self).__name__}({options})'

    @property
    def is_color(self) -> bool:
        """True if the pixels have the format of photographs: three channels with 8 bits."""
        return self.channels == 3 and self.dtype == np.uint8

    def size(self, data: bytes) -> tuple[int, int]:
        """content of a file -> height and width."""
        height, width = self.pixels(data).shape[:2]
        return height, width

    def read(self, data: bytes) -> np.ndarray:
        """content of a file -> the whole image (H, W, channels). Raises BadImageError."""
        height, width = self.size(data)
        return self.crop(data, (0, 0, height, width), (height, width))

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        """content of a file -> crop (H, W, channels), see `Reader.crop`."""
        pixels = self.pixels(data)
        check_box(box, pixels.shape[:2])
        top, left, height, width = box
        crop = pixels[top:top + height, left:left + width]
        crop = crop if self.taken is None else crop[..., self.taken]
        # torch needs native byte order and writable memory.
        crop = np.require(crop, self.dtype, ['C', 'W'])
        return resize(crop, (0, 0, height, width), size, interpolation=interpolation, out=out)

    def pixels(self, data: bytes) -> np.ndarray:
        """content of a file -> all pixels (H, W, C), after `check`. Raises BadImageError."""
        raise NotImplementedError

    def check(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Raises BadImageError if shape (H, W, C) or type differ from the config, or the image is too large."""
        if dtype.newbyteorder('=') != self.dtype:
            raise BadImageError(f'holds {dtype} numbers, expected {self.dtype}: '
                                + (f"set dtype='{dtype.newbyteorder('=')}' in the reader of the config"
                                   if dtype.kind == 'u' and dtype.itemsize <= 2 else
                                   'scale them to unsigned 8 or 16 bits and save them again'))
        if 0 in shape:
            raise BadImageError(f'is empty, {shape[0]}x{shape[1]} with {shape[2]} channels: remove it')
        fault = size_fault(shape[0], shape[1], self.max_pixels)
        if fault:
            raise BadImageError(fault)
        if self.taken is None and shape[2] != self.channels:
            raise BadImageError(f'has {shape[2]} channels, expected {self.channels}: set channels={shape[2]} in the '
                                'reader of the config and in_channels in its model, or channels=[...] to take some')
        if self.taken is not None and max(self.taken) >= shape[2]:
            raise BadImageError(f'has {shape[2]} channels, counted from 0, and channel {max(self.taken)} is requested: '
                                f'correct channels={list(self.taken)} in the reader of the config')


@TRANSFORMS.register_module()
class ArrayReader(BandReader):
    """Reads NumPy files (.npy) with one image each, (H, W) or (H, W, C). Pickled content is never loaded.

    Args:
        channels, dtype, max_pixels, shown: see `BandReader`.
        channels_first: the files hold (C, H, W).
    """

    suffixes = ('.npy',)

    def __init__(self, channels: int | Sequence[int] = 3, *, dtype: str = 'uint8', channels_first: bool = False,
                 max_pixels: int | None = None, shown: Sequence[int] | None = None) -> None:
        super().__init__(channels, dtype=dtype, max_pixels=max_pixels, shown=shown)
        self.channels_first = channels_first

    def pixels(self, data: bytes) -> np.ndarray:
        """content of a .npy file -> (H, W, C), a view of it."""
        shape, by_columns, dtype, start = _array_header(data)
        if len(shape) not in (2, 3) or not all(type(side) is int and side >= 0 for side in shape):
            raise BadImageError(f'is an array of shape {shape}, expected (H, W) or (H, W, C): save one image '
                                'per file')
        # Shape and type are checked first, which refuses arrays of objects.
        planes = (*shape, 1) if len(shape) == 2 else shape
        first = self.channels_first and len(shape) == 3
        try:
            self.check((planes[1], planes[2], planes[0]) if first else planes, dtype)
        except BadImageError as error:
            swapped = planes[-1] if first else planes[0]
            hint = f'; or set channels_first={not first}, as its shape is {shape}'
            message = f'{error}{hint}' if len(shape) == 3 and swapped == self.channels else str(error)
            raise BadImageError(message) from error
        count = int(np.prod(shape, dtype=object))
        if len(data) < start + count * dtype.itemsize:
            raise BadImageError(f'is a NumPy array truncated after {len(data)} bytes: replace or remove it')
        pixels = np.frombuffer(data, dtype, count, start).reshape(planes, order='F' if by_columns else 'C')
        return np.moveaxis(pixels, 0, -1) if first else pixels


def _array_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """content of a .npy file -> shape, whether it is in Fortran order, type, and offset of the numbers."""
    file = io.BytesIO(data)
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, by_columns, dtype = read(file)
    except Exception as error:  # NumPy uses Python's parser, which raises many errors
        raise BadImageError(f'is not a NumPy file (.npy), it starts with {data[:12]!r}: remove or '
                            'convert it') from error
    return shape, by_columns, dtype, file.tell()


@TRANSFORMS.register_module()
class TiffReader(BandReader):
    """Reads TIFF and GeoTIFF files with interleaved channels, planes or pages. Needs the extra `geotiff`.

    Files with several images give the first one. Overviews are ignored.

    Args:
        channels, dtype, max_pixels, shown: see `BandReader`.
    """

    suffixes = ('.tif', '.tiff')

    def __init__(self, channels: int | Sequence[int] = 3, *, dtype: str = 'uint8', max_pixels: int | None = None,
                 shown: Sequence[int] | None = None) -> None:
        super().__init__(channels, dtype=dtype, max_pixels=max_pixels, shown=shown)
        missing = [name for name in ('tifffile', 'imagecodecs') if find_spec(name) is None]
        if missing:
            raise ValueError(f'TiffReader needs {" and ".join(missing)}: python -m pip install {" ".join(missing)}, or '
                             'install this package with its extra geotiff')

    def size(self, data: bytes) -> tuple[int, int]:
        """content of a file -> height and width, from its header."""
        height, width, _ = self._read(data)[0]
        return height, width

    def pixels(self, data: bytes) -> np.ndarray:
        """content of a file -> (H, W, C)."""
        pixels = self._read(data, decode=True)[1]
        assert pixels is not None
        return pixels

    def _read(self, data: bytes, *, decode: bool = False) -> tuple[tuple[int, int, int], np.ndarray | None]:
        """Shape (H, W, C), and the pixels if `decode` is set."""
        import tifffile
        fault = _pages_fault(data)
        if fault:
            raise BadImageError(fault)
        try:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                series = file.series[0]
                axes = series.axes
                order = [axes.index('Y'), axes.index('X'), *(i for i, axis in enumerate(axes) if axis not in 'YX')]
                height, width, *others = (series.shape[i] for i in order)
                shape = height, width, int(np.prod(others, dtype=object))
                self.check(shape, series.dtype)
                chunk = max((int(np.prod(page.chunks, dtype=object)) for page in series.pages), default=0)
                if chunk > max(_MAX_CHUNK, 4 * int(np.prod(shape, dtype=object))):
                    raise BadImageError(f'has tiles or strips of {chunk:,} values, more than its {height}x{width} '
                                        'pixels: replace or remove it')
                ends = [at + size for page in series.pages for at, size in
                        zip(page.dataoffsets, page.databytecounts, strict=True)]
                if max(ends, default=0) > len(data):
                    raise BadImageError(f'is a TIFF truncated after {len(data)} bytes: replace or remove it')
                pixels = series.asarray(maxworkers=1).transpose(order).reshape(shape) if decode else None
                return shape, pixels
        except BadImageError:
            raise
        except Exception as error:  # tifffile raises many kinds of errors for broken files
            raise BadImageError(f'is not a TIFF that tifffile can read ({type(error).__name__}: {error}): replace '
                                'or remove it') from error


def _pages_fault(data: bytes) -> str:
    """Reason why the pages of a TIFF cannot be listed; '' if they can, or if the file is not a TIFF.

    Each page has the offset of the next one (TIFF 6.0 section 2), so that pages may form a cycle.
    """
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    if order is None or len(data) < 16:
        return ''
    is_big = struct.unpack_from(f'{order}H', data, 2)[0] == 43
    count_code, offset_code, entry = ('Q', 'Q', 20) if is_big else ('H', 'I', 12)
    at, = struct.unpack_from(order + offset_code, data, 8 if is_big else 4)
    visited: set[int] = set()
    while at and at not in visited and len(visited) <= _MAX_PAGES:
        visited.add(at)
        try:
            count, = struct.unpack_from(order + count_code, data, at)
            at, = struct.unpack_from(order + offset_code, data, at + struct.calcsize(f'={count_code}') + entry * count)
        except (struct.error, OverflowError):  # truncated, which tifffile reports
            return ''
    if at in visited:
        return 'is a TIFF in which pages form a cycle: replace or remove it'
    return f'is a TIFF of more than {_MAX_PAGES:,} pages: split it' if len(visited) > _MAX_PAGES else ''
