"""EXIF orientation of PNG and WebP files, which consist of chunks."""
import struct
from typing import BinaryIO

from mae_backbone.data.jpeg_header import exif_orientation

_PNG = b'\x89PNG\r\n\x1a\n'
_MAX_EXIF = 2 ** 16  # bytes of EXIF data that are read


def chunk_orientation(file: BinaryIO) -> int:
    """Orientation in the EXIF chunk of a PNG or WebP file, 1 if there is none. No pixels are decoded.

    The chunk of a PNG may follow the pixels, and the chunk of a WebP usually does.
    """
    start = file.read(12)
    is_webp = start[:4] == b'RIFF' and start[8:] == b'WEBP'
    if start[:8] == _PNG:
        file.seek(8)
    elif not is_webp:
        return 1
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack('<4xI' if is_webp else '>I4x', header)[0], header[:4] if is_webp else header[4:]
        if kind == (b'EXIF' if is_webp else b'eXIf'):
            exif = file.read(min(length, _MAX_EXIF))
            return exif_orientation(exif.removeprefix(b'Exif\0\0') if is_webp else exif)
        file.seek(length + (length & 1 if is_webp else 4), 1)  # padding to an even length, or a checksum
    return 1
