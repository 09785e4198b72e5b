"""Decodes image files: whole images, or crops at the size that is needed."""
import io
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from mae_backbone.data.chunk_orientation import chunk_orientation
from mae_backbone.data.files import read_file
from mae_backbone.data.image_header import header_fault, read_header
from mae_backbone.data.jpeg_cut import Cut, cut_jpeg
from mae_backbone.data.jpeg_header import JpegHeader, stored_box, upright
from mae_backbone.data.resize import resize

Box = tuple[int, int, int, int]  # top, left, height, width of a crop, in pixels of the displayed image
_MAX_CHANNELS = 4  # of images that OpenCV decodes
_END_OF_JPEG = b'\xff\xd9'
_TRUNCATED_JPEG = 'is a JPEG truncated after {} bytes (no end marker)'


class BadImageError(ValueError):
    """An image file that cannot be read, or a data set with too many of them."""


class Decoding(NamedTuple):
    """Options of decoding.

    Args:
        value_range: (low, high) of 16-bit images that become 0 and 255; values outside are clipped. None divides by
            256, which leaves images of 12 bits (0 to 4,095) nearly black.
        percentiles: (low, high) in 0..100 that become 0 and 255, per 16-bit image, in place of `value_range`.
        max_pixels: maximum number of pixels; None for `image_header.max_pixels()`.
        ignore_orientation: read images as they are stored, without their EXIF orientation.
    """

    value_range: tuple[int, int] | None = None
    percentiles: tuple[float, float] | None = None
    max_pixels: int | None = None
    ignore_orientation: bool = False

    def check(self) -> 'Decoding':
        """Returns itself. Raises ValueError if an option is out of range."""
        if self.value_range is not None and self.percentiles is not None:
            raise ValueError(f'value_range={self.value_range} and percentiles={self.percentiles}: set one of them')
        if self.value_range is not None and not 0 <= self.value_range[0] < self.value_range[1] <= 65535:
            raise ValueError(f'value_range={self.value_range}, expected two numbers in 0..65535, the smaller one '
                             'first, such as (0, 4095)')
        if self.percentiles is not None and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f'percentiles={self.percentiles}, expected two numbers in 0..100, the smaller one first, '
                             'such as (0.5, 99.5)')
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ValueError(f'max_pixels={self.max_pixels}, expected a number of pixels, such as 250_000_000')
        return self

    def to_8_bits(self, pixels: np.ndarray) -> np.ndarray:
        """uint16 pixels -> uint8 pixels of the same shape."""
        bounds = self.value_range if self.percentiles is None else np.percentile(pixels, self.percentiles)
        if bounds is None:
            return (pixels >> 8).astype(np.uint8)
        low, high = float(bounds[0]), max(float(bounds[1]), float(bounds[0]) + 1)
        table = ((np.arange(65536, dtype=np.float64) - low) * (255 / (high - low))).clip(0, 255).round()
        return table.astype(np.uint8)[pixels]


DEFAULT = Decoding()


def read_image(path: str | Path, decoding: Decoding = DEFAULT) -> np.ndarray:
    """Reads an image file as pixels (H, W, 3) uint8 RGB; the content determines the format, not the suffix.

    Gray, palette and CMYK images are converted to RGB. 16 bits become 8 according to `decoding`. Alpha is dropped (for
    some TIFF files, OpenCV multiplies the colors by it). EXIF orientation is applied, unless `ignore_orientation` is
    set. Of a file with several pages the first page is read.

    Raises:
        BadImageError: the file is empty, truncated, too large, not an image, or does not hold 8 or 16 bits.
        OSError: the file cannot be read, or is not a regular file.
    """
    data = read_file(path)  # cv2.imread fails on unicode names on Windows
    try:
        return decode(data, decoding)
    except BadImageError as error:
        raise BadImageError(f'{path} {error}') from error


def decode(data: bytes, decoding: Decoding = DEFAULT) -> np.ndarray:
    """content of an image file -> pixels (H, W, 3) uint8 RGB, as `read_image`.

    Raises:
        BadImageError: the content is not a readable image. The message states the fault and what to do. It continues a
            sentence that starts with the file name, such as 'is empty', because the name is not known here.
    """
    return to_rgb(decode_bgr(data, decoding), decoding)


def decode_bgr(data: bytes, decoding: Decoding = DEFAULT) -> np.ndarray:
    """content of an image file -> pixels (H, W, 3) uint8 or uint16 in BGR, without scaling. Raises as `decode`."""
    fault = _fault(data, decoding.max_pixels)
    if fault:
        raise BadImageError(fault)
    # Any depth: OpenCV would convert floats of unknown range to 8 bits without an error.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    # OpenCV applies the orientation of JPEG, PNG and TIFF. Version 4.12 ignores the orientation of WebP.
    turns = data.startswith(b'RIFF') and not decoding.ignore_orientation
    orientation = chunk_orientation(io.BytesIO(data)) if turns else 1
    if orientation != 1 or decoding.ignore_orientation:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(without_animation(data), np.uint8), flags)
    except cv2.error as error:
        raise BadImageError(f'is refused by OpenCV ({error.err}): convert or remove it') from error
    if pixels is None and data.startswith(b'GIF8'):
        pixels = _decode_gif(data)
    if pixels is None:
        raise BadImageError(f'is not an image that OpenCV can decode, it starts with {data[:12]!r}: convert it to PNG '
                            'or JPEG with 8 bits, or remove it')
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadImageError(f'holds {pixels.dtype} numbers, expected 8 or 16 bits: scale them to 0..255 and save it '
                            'again')
    return pixels if orientation == 1 else np.ascontiguousarray(upright(pixels, orientation))


def without_animation(data: bytes) -> bytes:
    """content of an image file -> the same without the animation of a PNG (APNG), which leaves its default image.

    OpenCV 4.12 crashes at damaged animations.

    Raises:
        BadImageError: the chunks of an animated PNG are damaged.
    """
    if not data.startswith(b'\x89PNG') or b'acTL' not in data:
        return data
    kept, at = [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at:at + 4], 'big')
        kind = data[at + 4:at + 8]
        if end > len(data):
            raise BadImageError(f'is a damaged PNG at byte {at:,}: replace or remove it')
        if kind not in (b'acTL', b'fcTL', b'fdAT'):
            kept.append(data[at:end])
        at = len(data) if kind == b'IEND' else end
    return b''.join(kept)


def _decode_gif(data: bytes) -> np.ndarray | None:
    """First frame of a GIF by PIL: (H, W, 3) uint8 BGR. For builds of OpenCV without GIF (4.11). None if damaged."""
    from PIL import Image
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert('RGB'))[..., ::-1].copy()
    except Exception:  # PIL raises many kinds of errors for broken files
        return None


def to_rgb(pixels: np.ndarray, decoding: Decoding = DEFAULT) -> np.ndarray:
    """result of `decode_bgr` -> (H, W, 3) uint8 RGB."""
    return cv2.cvtColor(decoding.to_8_bits(pixels) if pixels.dtype == np.uint16 else pixels, cv2.COLOR_BGR2RGB)


def image_size(data: bytes, decoding: Decoding = DEFAULT) -> tuple[int, int]:
    """content of an image file -> displayed height and width. Reads only the header of a JPEG.

    Raises:
        BadImageError: as `decode`.
    """
    header = _jpeg_header(data, decoding)
    if header is None:
        return _decoded(data, decoding).shape[:2]
    _check_header(data, decoding)
    return header.size


def decode_crop(data: bytes, box: Box, size: tuple[int, int], *, interpolation: str = 'bicubic',
                out: np.ndarray | None = None, decoding: Decoding = DEFAULT) -> np.ndarray:
    """content of an image file -> crop resized to `size`: (H, W, 3) uint8 RGB.

    The filter is PIL's, with antialiasing. libjpeg-turbo decodes JPEGs at a half, a quarter or an eighth of their size
    if the crop still has enough pixels, and stops at the last row of the crop. Of a JPEG with restart markers only the
    intervals around the crop are decoded.

    Args:
        data: content of a complete file.
        box: (top, left, height, width) inside the displayed image.
        size: height and width of the result.
        interpolation: 'bicubic' or 'bilinear'.
        out: array (H, W, 3) uint8 for the result; otherwise a new one.
        decoding: how 16 bits become 8, and the limit of pixels.

    Raises:
        BadImageError: as `decode`.
        ValueError: the box is not inside the image.
    """
    header = _jpeg_header(data, decoding)
    if header is None:
        return _crop_decoded(data, box, size, interpolation, out, decoding)
    _check_header(data, decoding)
    decoded = _decode_jpeg(data, header, box, size)
    if decoded is None:
        return _crop_decoded(data, box, size, interpolation, out, decoding)
    pixels, stored = decoded
    if header.orientation == 1:
        return resize(pixels, stored, size, interpolation=interpolation, out=out)
    stored_size = size if header.orientation <= 4 else (size[1], size[0])
    displayed = upright(resize(pixels, stored, stored_size, interpolation=interpolation), header.orientation)
    if out is None:
        return np.ascontiguousarray(displayed)
    out[:] = displayed
    return out


def _jpeg_header(data: bytes, decoding: Decoding) -> JpegHeader | None:
    header = JpegHeader.of(data)
    return header._replace(orientation=1) if header is not None and decoding.ignore_orientation else header


def _crop_decoded(data: bytes, box: Box, size: tuple[int, int], interpolation: str, out: np.ndarray | None,
                  decoding: Decoding) -> np.ndarray:
    pixels = _decoded(data, decoding)
    check_box(box, pixels.shape[:2])
    return resize(pixels, box, size, interpolation=interpolation, out=out)


@lru_cache(maxsize=1)
def _decoded(data: bytes, decoding: Decoding) -> np.ndarray:
    """Calls `decode` and caches the result, for callers that ask for the size of an image and then for a crop of it."""
    return decode(data, decoding)


def check_box(box: Box, size: tuple[int, ...]) -> None:
    """Raises ValueError if a box is not inside an image of this size (height, width)."""
    top, left, height, width = box
    if not (0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]):
        raise ValueError(f'box (top, left, height, width) = {tuple(box)} is not inside an image of {size[0]}x{size[1]} '
                         '(height x width)')


def _decode_jpeg(data: bytes, header: JpegHeader, box: Box, size: tuple[int, int]) -> tuple[np.ndarray, Box] | None:
    """Returns pixels in the stored orientation, possibly at a reduced scale, and the crop box in these pixels.

    None if libjpeg-turbo cannot decode the file.

    The pixels are in a buffer that the next call overwrites.
    """
    check_box(box, header.size)
    if data.rfind(_END_OF_JPEG, header.scan_at) < 0:
        raise BadImageError(f'{_TRUNCATED_JPEG.format(len(data))}: replace or remove it')
    top, left, height, width = stored_box(box, header)
    factor = _factor((height, width), size if header.orientation <= 4 else (size[1], size[0]))
    margin = 2 * factor  # upsampling of colors reads the pixels around the crop
    rows = min(top + height + margin, header.height)
    cut = cut_jpeg(data, header, (max(top - margin, 0), rows),
                   (max(left - margin, 0), min(left + width + margin, header.width)))
    if cut is None and header.one_scan and rows < header.height:
        # The height in the header is replaced by a smaller one, so that decoding stops below the crop. Most of the time
        # is spent on entropy decoding of the whole image, which neither a smaller scale nor a region avoids.
        at = header.height_at
        cut = Cut(b''.join((data[:at], rows.to_bytes(2, 'big'), data[at + 2:])), 0, 0, rows, header.width)
    elif cut is None:
        cut = Cut(data, 0, 0, header.height, header.width)
    try:
        # Not strict, because data follow the last row. The end marker was checked above.
        least = -(-cut.height // factor), -(-cut.width // factor)
        pixels = simplejpeg.decode_jpeg(cut.data, min_height=least[0], min_width=least[1], strict=False,
                                        buffer=_scratch(3 * least[0] * least[1]))
    except ValueError:
        return None
    # Edges are rounded to the nearest pixel, so that the crop moves by less than one pixel of the reduced image.
    bottom, right = round((top + height) / factor), round((left + width) / factor)
    top, left = round(top / factor), round(left / factor)
    return pixels, (top - cut.top // factor, left - cut.left // factor, bottom - top, right - left)


_SCRATCH = threading.local()
_SCRATCH_BYTES = 2 ** 24


def _scratch(size: int) -> bytearray | None:
    """Returns a reusable buffer of at least `size` bytes. None for large images, whose buffer would stay allocated.

    A new buffer is slower: the system fills its pages with zeros, which takes a tenth of the time of decoding a photo.
    """
    if size > _SCRATCH_BYTES:
        return None
    if len(getattr(_SCRATCH, 'room', b'')) < size:
        _SCRATCH.room = bytearray(size)
    return _SCRATCH.room


def _factor(crop: tuple[int, int], size: tuple[int, int]) -> int:
    """Returns the largest factor (1, 2, 4 or 8) by which a crop can be reduced in decoding and is not below `size`.

    One pixel more than `size` is required, because rounding loses one.
    """
    ratio = min(crop[0] // (size[0] + 1), crop[1] // (size[1] + 1))
    return 8 if ratio >= 8 else 4 if ratio >= 4 else 2 if ratio >= 2 else 1


def _check_header(data: bytes, decoding: Decoding) -> None:
    fault = header_fault(data, decoding.max_pixels)
    if fault:
        raise BadImageError(fault)


def _fault(data: bytes, max_pixels: int | None) -> str:
    """Returns the fault of a file, found without decoding; '' if there is none.

    It is needed because some versions of OpenCV fill missing data with gray without an error.
    """
    if not data:
        return 'is empty (0 bytes): replace or remove it'
    fault = header_fault(data, max_pixels)
    if fault:
        return fault
    header = read_header(data) if data.startswith((b'II', b'MM')) else None
    if header is not None and header.channels > _MAX_CHANNELS:
        return (f'is a TIFF with {header.channels} channels of {header.bits} bits, expected gray or color. '
                'mae_backbone.TiffReader reads up to 16 channels of unsigned 8 or 16 bits: set it as the reader, or '
                'scale other numbers and save them again')
    if data.startswith(b'\xff\xd8') and data.rfind(_END_OF_JPEG, _jpeg_scan(data)) < 0:
        return f'{_TRUNCATED_JPEG.format(len(data))}: replace or remove it'
    if data.startswith(b'\x89PNG') and data.rfind(b'IEND') < 0:
        return f'is a PNG truncated after {len(data)} bytes (no end marker): replace or remove it'
    return ''


def _jpeg_scan(data: bytes) -> int:
    """Offset of the first scan of a JPEG, behind the header with its preview, which has its own end marker."""
    at = 2
    while data[at:at + 1] == b'\xff' and data[at + 1:at + 2] != b'\xda':
        fill = data[at + 1:at + 2] == b'\xff'  # ITU T.81 B.1.1.2: any number of 0xff may precede a marker
        at += 1 if fill else 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    return at
