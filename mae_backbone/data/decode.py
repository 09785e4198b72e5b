"""The bytes of an image file to pixels."""
from pathlib import Path

import cv2
import numpy as np


class BadImage(ValueError):
    """A file that cannot be read as an image, or a set with too many of them."""


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
