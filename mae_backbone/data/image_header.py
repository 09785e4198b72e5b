"""Size and bit depth of images from the headers of their files, and the limit of pixels that may be decoded."""
import os
import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from mae_backbone.utils.memory import available_memory

DEFAULT_MAX_PIXELS = 250_000_000
SETTING = 'MAE_BACKBONE_MAX_PIXELS'  # environment variable
_BYTES_PER_PIXEL = 12  # memory at the peak of decoding: 16-bit pixels in three channels, as BGR and as RGB
_MIN_LIMIT = 1_000_000  # pixels that are always allowed

# Frame headers of JPEG (ITU T.81 table B.1), and other markers in their range.
_FRAMES = frozenset(range(0xc0, 0xd0)) - {0xc4, 0xc8, 0xcc}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xd0, 0xd8)})
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_CHANNELS = 256, 257, 258, 277


class ImageHeader(NamedTuple):
    """Content of the header of an image file."""

    height: int  # in pixels, as stored
    width: int
    bits: int  # bits per channel; 8 if the header does not state it
    min_bytes: int = 0  # smallest number of bytes that the pixels need in the file
    channels: int = 1  # of a TIFF; 1 for other formats


def max_pixels() -> int:
    """Number of pixels above which an image is not decoded.

    250 megapixels, or less if the available memory does not suffice. The environment variable MAE_BACKBONE_MAX_PIXELS
    replaces both.

    Raises:
        ValueError: the variable is not a positive number.
    """
    return _max_pixels(os.environ.get(SETTING, ''))


@lru_cache(maxsize=8)
def _max_pixels(setting: str) -> int:
    if not setting:
        return min(DEFAULT_MAX_PIXELS, max(_MIN_LIMIT, available_memory() // _BYTES_PER_PIXEL))
    try:
        limit = int(float(setting))
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise ValueError(f'{SETTING}={setting!r}, expected a number of pixels, such as 250e6')
    return limit


def read_header(data: bytes) -> ImageHeader | None:
    """The header of a file in one of the formats of `data/files.IMAGE_SUFFIXES` or a related one; None for others."""
    for pattern, parse in _FORMATS:
        if pattern.match(data):
            try:
                return parse(data)
            except (struct.error, IndexError, ValueError, OverflowError):  # truncated or malformed
                return None
    return None


def header_fault(data: bytes, limit: int | None = None) -> str:
    """Reason not to decode a file, from its header; empty if there is none.

    Args:
        limit: maximum number of pixels; None for `max_pixels()`.
    """
    header = read_header(data)
    return '' if header is None else size_fault(header.height, header.width, limit) or data_fault(header, len(data))


def size_fault(height: int, width: int, limit: int | None = None) -> str:
    """Reason not to decode an image of this size; empty if there is none. `limit` as in `header_fault`."""
    limit = max_pixels() if limit is None else limit
    if height * width <= limit:
        return ''
    reason = '' if limit == DEFAULT_MAX_PIXELS or os.environ.get(SETTING) else ' (by the free memory or the reader)'
    return (f'states {height}x{width} pixels (height x width), which are {height * width / 1e6:,.0f} megapixels; the '
            f'limit is {limit / 1e6:,.0f}{reason}. Remove it, or raise the limit: set {SETTING} to a number of pixels')


def data_fault(header: ImageHeader, size: int) -> str:
    """Reason not to decode a file of `size` bytes: too little data for the pixels that its header states."""
    if size >= header.min_bytes:
        return ''
    return (f'states {header.height}x{header.width} pixels (height x width), which need at least {header.min_bytes:,} '
            f'bytes, and has {size:,}: replace or remove it')


def _png(data: bytes) -> ImageHeader:
    width, height, bits = struct.unpack_from('>IIB', data, 16)
    return ImageHeader(height, width, bits)


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from('<HH', data, 6)
    return ImageHeader(height, width, 8)


def _bmp(data: bytes) -> ImageHeader:
    if struct.unpack_from('<I', data, 14)[0] == 12:  # OS/2
        width, height = struct.unpack_from('<HH', data, 18)
    else:
        width, height = struct.unpack_from('<ii', data, 18)
    return ImageHeader(abs(height), abs(width), 8)  # a negative height: rows from top to bottom


def _jpeg(data: bytes) -> ImageHeader:
    at = 2
    while True:
        if data[at] != 0xff:
            raise ValueError('no marker')
        marker = data[at + 1]
        if marker == 0xff or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xff else 2
            continue
        if marker in _FRAMES:
            bits, height, width = struct.unpack_from('>BHH', data, at + 4)
            # The first scan of a Huffman-coded JPEG has one bit or more for every block of 8x8 pixels.
            huffman = marker in (0xc0, 0xc1, 0xc2)
            return ImageHeader(height, width, bits, height * width // 512 if huffman else 0)
        at += 2 + struct.unpack_from('>H', data, at + 2)[0]


def _webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b'VP8X':
        width, height = (1 + int.from_bytes(data[at:at + 3], 'little') for at in (24, 27))
    elif kind == b'VP8L':
        packed = struct.unpack_from('<I', data, 21)[0]
        width, height = 1 + (packed & 0x3fff), 1 + (packed >> 14 & 0x3fff)
    else:
        width, height = (number & 0x3fff for number in struct.unpack_from('<HH', data, 26))
    return ImageHeader(height, width, 8)


def _tiff(data: bytes) -> ImageHeader:
    order = '<' if data[:2] == b'II' else '>'
    big = struct.unpack_from(f'{order}H', data, 2)[0] == 43
    start = struct.unpack_from(f'{order}Q' if big else f'{order}I', data, 8 if big else 4)[0]
    count = struct.unpack_from(f'{order}Q' if big else f'{order}H', data, start)[0]
    first, size, value_at = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    values = {_TIFF_BITS: 1, _TIFF_CHANNELS: 1}
    for at in range(first, min(first + size * count, len(data)), size):
        tag, kind, number = struct.unpack_from(f'{order}HHQ' if big else f'{order}HHI', data, at)
        code = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}.get(kind)
        if tag in values.keys() | {_TIFF_WIDTH, _TIFF_HEIGHT} and code:
            place = at + value_at
            if number * struct.calcsize(f'={code}') > size - value_at:  # elsewhere in the file
                place = struct.unpack_from(f'{order}Q' if big else f'{order}I', data, place)[0]
            values[tag] = struct.unpack_from(f'{order}{code}', data, place)[0]
    return ImageHeader(values.get(_TIFF_HEIGHT, 0), values.get(_TIFF_WIDTH, 0), values[_TIFF_BITS],
                       channels=values[_TIFF_CHANNELS])


def _netpbm(data: bytes) -> ImageHeader:
    kind = data[1:2]
    if kind == b'7':
        numbers = [int(re.findall(rb'(?m)^%s\s+(\d+)' % name, data[:4096])[0]) for name in (b'HEIGHT', b'WIDTH',
                                                                                           b'MAXVAL')]
        return ImageHeader(numbers[0], numbers[1], numbers[2].bit_length())
    tokens = re.sub(rb'#[^\n]*\n', b' ', data[2:4096]).split()
    width, height = int(tokens[0]), int(tokens[1])
    return ImageHeader(height, width, 1 if kind in b'14' else 32 if kind in b'Ff' else int(tokens[2]).bit_length())


def _jpeg2000(data: bytes) -> ImageHeader:
    height = width = bits = 0
    box, stream = data.find(b'ihdr'), data.find(b'\xff\x4f\xff\x51')
    if box >= 0:
        height, width, _, depth = struct.unpack_from('>IIHB', data, box + 4)
        bits = (depth & 0x7f) + 1
    if stream >= 0:  # decoders use the size in the stream if the two sizes differ
        right, bottom, left, top = struct.unpack_from('>IIII', data, stream + 8)
        height, width = max(height, bottom - top), max(width, right - left)
        bits = (data[stream + 42] & 0x7f) + 1
    return ImageHeader(height, width, bits or 8)


def _iso(data: bytes) -> ImageHeader:
    sizes = [struct.unpack_from('>II', data, match.end() + 4) for match in re.finditer(b'ispe', data[:2**16])]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return ImageHeader(height, width, 8)


def _radiance(data: bytes) -> ImageHeader:
    match = re.search(rb'[-+]Y (\d+) [-+]X (\d+)', data[:4096])
    if match is None:
        raise ValueError('no size')
    return ImageHeader(int(match[1]), int(match[2]), 32)


def _sun(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from('>II', data, 4)
    return ImageHeader(height, width, 8)


_FORMATS: list[tuple[re.Pattern[bytes], Callable[[bytes], ImageHeader]]] = [
    (re.compile(pattern, re.DOTALL), parse) for pattern, parse in (
        (rb'\xff\xd8\xff', _jpeg),
        (rb'\x89PNG\r\n\x1a\n', _png),
        (rb'RIFF....WEBP', _webp),
        (rb'GIF8', _gif),
        (rb'BM', _bmp),
        (rb'II[*+]\0|MM\0[*+]', _tiff),
        (rb'P[1-7Ff]\s', _netpbm),
        (rb'\0\0\0\x0cjP  |\xff\x4f\xff\x51', _jpeg2000),
        (rb'....ftyp', _iso),
        (rb'#\?', _radiance),
        (rb'\x59\xa6\x6a\x95', _sun),
    )]
