"""What stands before the pixels of a JPEG: its size, how it is turned, and whether it is of the common kind.

ITU T.81 annex B for the markers, TIFF 6.0 section 2 for the EXIF data.
"""
import struct
from typing import NamedTuple

import numpy as np

_FRAMES = frozenset({0xc0, 0xc1, 0xc2})  # Huffman-coded DCT: baseline, extended, progressive
_NO_FRAMES = frozenset({0xc4, 0xc8, 0xcc})  # tables that stand in the range of the frames
_ALONE = frozenset({0x01, *range(0xd0, 0xd8)})  # markers without a length
_ORIENTATION = 0x0112
_PIXELS = 2 ** 30  # as OpenCV: more is refused there by name


class JpegHeader(NamedTuple):
    height: int  # as stored
    width: int
    orientation: int  # 1..8 of EXIF, 1: upright
    height_at: int  # where the height is written
    scan_at: int  # where the first scan begins, past the preview that a camera writes
    one_scan: bool  # pixels come row after row, in one scan

    @classmethod
    def of(cls, data: bytes) -> 'JpegHeader | None':
        """The header of a JPEG in gray or three colors; None for all else, cut off and rare kinds among it."""
        if data[:3] != b'\xff\xd8\xff':
            return None
        at, end, orientation, frame = 2, len(data) - 4, 0, None
        while at < end and data[at] == 0xff:
            marker = data[at + 1]
            if marker == 0xff:  # fill, B.1.1.2
                at += 1
                continue
            if marker in _ALONE:
                at += 2
                continue
            length = data[at + 2] << 8 | data[at + 3]
            if marker == 0xda:
                if frame is None:
                    return None
                height, width, height_at, sequential, components = frame
                return cls(height, width, orientation or 1, height_at, at, sequential and data[at + 4] == components)
            if marker == 0xe1 and not orientation and data[at + 4:at + 10] == b'Exif\0\0':
                orientation = exif_orientation(data[at + 10:at + 2 + length])
            elif 0xc0 <= marker <= 0xcf and marker not in _NO_FRAMES:
                if marker not in _FRAMES or at + 10 > len(data):
                    return None
                bits, height, width, components = struct.unpack_from('>BHHB', data, at + 4)
                if bits != 8 or components not in (1, 3) or not 0 < height * width <= _PIXELS:
                    return None
                frame = height, width, at + 5, marker != 0xc2, components
            at += 2 + length
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as viewers show them."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)


def exif_orientation(exif: bytes) -> int:
    """The orientation in EXIF data (a TIFF file), 1 where it is not given or makes no sense."""
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    start, = struct.unpack_from(f'{order}I', exif, 4)
    if start + 2 > len(exif):
        return 1
    count, = struct.unpack_from(f'{order}H', exif, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, values, value = struct.unpack_from(f'{order}HHIH', exif, at)
        if tag == _ORIENTATION:
            return value if kind == 3 and values == 1 and 1 <= value <= 8 else 1
    return 1


def stored_box(box: tuple[int, int, int, int], header: JpegHeader) -> tuple[int, int, int, int]:
    """A box (top, left, height, width) of the image as viewers show it -> the same pixels as they are stored."""
    top, left, height, width = box
    if header.orientation > 4:  # shown on its side
        top, left, height, width = left, top, width, height
    if header.orientation in (3, 4, 6, 7):
        top = header.height - top - height
    if header.orientation in (2, 3, 7, 8):
        left = header.width - left - width
    return top, left, height, width


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, C) as stored -> as viewers show them; a view."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation > 4 else pixels
