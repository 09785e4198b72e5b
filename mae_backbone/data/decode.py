"""The bytes of an image file to pixels: all of them, or a crop at the size that is asked for."""
import threading
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from mae_backbone.data.jpeg_header import JpegHeader, stored_box, upright
from mae_backbone.data.resize import resize

Box = tuple[int, int, int, int]  # top, left, height, width of a crop, in pixels of the image as viewers show it
_END_OF_JPEG = b'\xff\xd9'
_CUT_JPEG = 'is a JPEG cut off after {} bytes (no end marker)'


class BadImageError(ValueError):
    """A file that cannot be read as an image, or a set with too many of them."""


def read_image(path: str | Path) -> np.ndarray:
    """An image file -> pixels (H, W, 3) uint8 in RGB; the content decides on the format, not the suffix.

    Gray, palette and CMYK become RGB, 16 bits keep their upper 8, an alpha channel is dropped (OpenCV multiplies it in
    for some TIFF). The orientation in the EXIF data of JPEG, PNG and TIFF is applied; OpenCV ignores that of WebP. Of a
    file with many pages comes the first.

    Raises:
        BadImageError: the file is empty, cut off, not an image, or holds numbers other than 8 or 16 bits.
        OSError: the file cannot be read at all.
    """
    data = Path(path).read_bytes()  # and not cv2.imread, which fails on unicode names on Windows
    try:
        return decode(data)
    except BadImageError as error:
        raise BadImageError(f'{path} {error}') from error


def decode(data: bytes) -> np.ndarray:
    """The bytes of an image file -> pixels (H, W, 3) uint8, as `read_image`.

    Raises:
        BadImageError: what is wrong and what to do; the message follows the name of the file, which is not known here.
    """
    fault = _fault(data)
    if fault:
        raise BadImageError(f'{fault}: replace or remove it')
    try:
        # Any depth, as OpenCV would squeeze floats of unknown range into 8 bits without a word.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise BadImageError(f'is refused by OpenCV: {error.err}: convert or remove it') from error
    if pixels is None:
        raise BadImageError(f'is no image that OpenCV can decode, it begins with {data[:12]!r}: convert it to '
                       'PNG or JPEG of 8 bits, or remove it')
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise BadImageError(f'holds {pixels.dtype} numbers, wanted 8 or 16 bits: scale them to 0..255 and save anew')
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def image_size(data: bytes) -> tuple[int, int]:
    """The bytes of an image file -> its height and width as viewers show it: of a JPEG from the header alone.

    Raises:
        BadImageError: as `decode`.
    """
    header = JpegHeader.of(data)
    return header.size if header else _decoded(data).shape[:2]


def decode_crop(data: bytes, box: Box, size: tuple[int, int], *, interpolation: str = 'bicubic',
                out: np.ndarray | None = None) -> np.ndarray:
    """The bytes of an image file -> the part in `box`, resized to `size` = (H, W): (H, W, 3) uint8 in RGB.

    The filter is PIL's: antialiased. A JPEG is decoded by libjpeg-turbo, at a half, a quarter or an eighth of its size
    where the crop still has the pixels that are asked for, and no further down than the crop reaches.

    Args:
        data: a whole file.
        box: (top, left, height, width) inside the image as viewers show it.
        size: height and width of the result.
        interpolation: 'bicubic' or 'bilinear'.
        out: (H, W, 3) uint8, where the result goes; otherwise a new array.

    Raises:
        BadImageError: as `decode`.
        ValueError: the box is not inside the image.
    """
    header = JpegHeader.of(data)
    pixels, part = _decode_jpeg(data, header, box, size) if header else (None, box)
    if pixels is None:
        pixels = _decoded(data)
        check_box(box, pixels.shape[:2])
        return resize(pixels, box, size, interpolation=interpolation, out=out)
    if header.orientation == 1:
        return resize(pixels, part, size, interpolation=interpolation, out=out)
    turned = upright(resize(pixels, part, size if header.orientation <= 4 else size[::-1],
                            interpolation=interpolation), header.orientation)
    if out is None:
        return np.ascontiguousarray(turned)
    out[:] = turned
    return out


@lru_cache(maxsize=1)
def _decoded(data: bytes) -> np.ndarray:
    """`decode`, once for those who ask for the size of an image and then for a crop of it."""
    return decode(data)


def check_box(box: Box, size: tuple[int, int]) -> None:
    top, left, height, width = box
    if not (0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]):
        raise ValueError(f'box (top, left, height, width) = {tuple(box)} is not inside of an image of '
                         f'{size[0]}x{size[1]} (height x width)')


def _decode_jpeg(data: bytes, header: JpegHeader, box: Box, size: tuple[int, int]) -> tuple[np.ndarray | None, Box]:
    """Pixels as stored, perhaps at reduced scale, and the box in them; no pixels where libjpeg-turbo refuses.

    They are in a buffer that the next call overwrites.
    """
    check_box(box, header.size)
    if data.rfind(_END_OF_JPEG, header.scan_at) < 0:
        raise BadImageError(f'{_CUT_JPEG.format(len(data))}: replace or remove it')
    top, left, height, width = stored_box(box, header)
    factor = _factor((height, width), size if header.orientation <= 4 else size[::-1])
    rows = min(top + height + 2 * factor, header.height)  # upsampling of colors looks at the row below
    if header.one_scan and rows < header.height:
        # As if the image ended below the crop: what comes then is not decoded. Most of the time goes into unpacking the
        # bits of all the image, which neither a smaller scale nor a region would save.
        at = header.height_at
        data = b''.join((data[:at], rows.to_bytes(2, 'big'), data[at + 2:]))
    else:
        rows = header.height
    try:
        # Not strict: what comes after the last row is not expected by the decoder. The end marker was seen above.
        least = -(-rows // factor), -(-header.width // factor)
        pixels = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1], strict=False,
                                        buffer=_scratch(3 * least[0] * least[1]))
    except ValueError:
        return None, box
    if factor == 1:
        return pixels, (top, left, height, width)
    # Edges are rounded to the nearest, so that the crop moves by less than a pixel of the reduced image.
    bottom, right = round((top + height) / factor), round((left + width) / factor)
    top, left = round(top / factor), round(left / factor)
    return pixels, (top, left, bottom - top, right - left)


_SCRATCH = threading.local()
_SCRATCH_BYTES = 2 ** 24


def _scratch(size: int) -> bytearray | None:
    """Room for that many bytes which the next call uses again: the system would fill new pages with zeros, in a tenth
    of the time that a photograph takes. None for large images, whose room would be held for ever."""
    if size > _SCRATCH_BYTES:
        return None
    if len(getattr(_SCRATCH, 'room', b'')) < size:
        _SCRATCH.room = bytearray(size)
    return _SCRATCH.room


def _factor(crop: tuple[int, int], size: tuple[int, int]) -> int:
    """By how much a crop may be decoded smaller (1, 2, 4, 8) without going below `size`, one pixel lost in rounding."""
    share = min(crop[0] // (size[0] + 1), crop[1] // (size[1] + 1))
    return 8 if share >= 8 else 4 if share >= 4 else 2 if share >= 2 else 1


def _fault(data: bytes) -> str:
    """What is wrong with a file before it is decoded: versions of OpenCV fill what is cut off with gray."""
    if not data:
        return 'is empty (0 bytes)'
    if data.startswith(b'\xff\xd8') and data.rfind(_END_OF_JPEG, _jpeg_scan(data)) < 0:
        return _CUT_JPEG.format(len(data))
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
