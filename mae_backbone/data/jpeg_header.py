"""Reads JPEG headers: size, orientation, and position of the scans.

Markers follow ITU T.81 annex B, EXIF data follow TIFF 6.0 section 2.
"""
import struct
from typing import NamedTuple

import numpy as np

_FRAMES = frozenset({0xc0, 0xc1, 0xc2})  # Huffman-coded DCT: baseline, extended, progressive
_NO_FRAMES = frozenset({0xc4, 0xc8, 0xcc})  # other markers in the range of the frame markers
_WITHOUT_LENGTH = frozenset({0x01, *range(0xd0, 0xd8)})
_ORIENTATION = 0x0112
_MAX_PIXELS = 2 ** 30  # as in OpenCV, which refuses larger images with its own message


class JpegHeader(NamedTuple):
    """Header of a JPEG in gray or three colors; offsets are in bytes from the start of the file."""

    height: int  # as stored
    width: int
    orientation: int  # orientation in EXIF, 1..8; 1 is upright
    height_at: int  # offset of the height
    scan_at: int  # offset of the first scan, behind the preview that cameras embed
    one_scan: bool  # one sequential scan with all components
    mcu: tuple[int, int]  # height and width in pixels of a minimum coded unit of such a scan
    restart_interval: int  # MCUs between restart markers; 0 without markers
    coded_at: int  # offset of the coded data of the first scan

    @classmethod
    def of(cls, data: bytes) -> 'JpegHeader | None':
        """Parses the header. None for other files, truncated headers and rare kinds of JPEG."""
        if data[:3] != b'\xff\xd8\xff':
            return None
        at, end, orientation, interval, frame = 2, len(data) - 4, 0, 0, None
        while at < end and data[at] == 0xff:
            marker = data[at + 1]
            if marker == 0xff:  # fill byte, B.1.1.2
                at += 1
                continue
            if marker in _WITHOUT_LENGTH:
                at += 2
                continue
            length = data[at + 2] << 8 | data[at + 3]
            if marker == 0xda:
                if frame is None:
                    return None
                height, width, height_at, sequential, components, mcu = frame
                return cls(height, width, orientation or 1, height_at, at, sequential and data[at + 4] == components,
                           mcu, interval, at + 2 + length)
            if marker == 0xe1 and not orientation and data[at + 4:at + 10] == b'Exif\0\0':
                orientation = exif_orientation(data[at + 10:at + 2 + length])
            elif marker == 0xdd:
                interval = data[at + 4] << 8 | data[at + 5]
            elif 0xc0 <= marker <= 0xcf and marker not in _NO_FRAMES:
                if marker not in _FRAMES or at + 19 > len(data):
                    return None
                bits, height, width, components = struct.unpack_from('>BHHB', data, at + 4)
                if bits != 8 or components not in (1, 3) or not 0 < height * width <= _MAX_PIXELS:
                    return None
                # A scan of one component has MCUs of one block, whatever its sampling factors say (A.2.2).
                factors = [1 << 4 | 1] if components == 1 else [*data[at + 11:at + 20:3]]
                mcu = 8 * max(factor & 15 for factor in factors), 8 * max(factor >> 4 for factor in factors)
                frame = height, width, at + 5, marker != 0xc2, components, mcu
            at += 2 + length
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Displayed height and width."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)


def exif_orientation(exif: bytes) -> int:
    """Orientation in EXIF data (a TIFF file), 1 if it is missing or invalid."""
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
    """box (top, left, height, width) in the displayed image -> box of the same pixels as stored."""
    top, left, height, width = box
    if header.orientation > 4:  # rotated by 90 degrees
        top, left, height, width = left, top, width, height
    if header.orientation in (3, 4, 6, 7):
        top = header.height - top - height
    if header.orientation in (2, 3, 7, 8):
        left = header.width - left - width
    return top, left, height, width


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """stored pixels (H, W, C) -> view of the displayed image."""
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(0, 1) if orientation > 4 else pixels
