"""Cuts a part out of a JPEG at its restart markers, without decoding anything.

The coded data between two restart markers (ITU T.81, B.2.1 and E.1.4) do not depend on the data before them. An
interval can therefore be removed, if the remaining markers are numbered again and the header states the smaller size.
"""
from typing import NamedTuple

import numpy as np

from mae_backbone.data.jpeg_header import JpegHeader

_FIRST_MARKER, _END = 0xd0, 0xd9  # second byte of the first of 8 restart markers, and of the end of the image
_MCU = 16  # side of an MCU (minimum coded unit) in pixels, for color images whose chroma has half the resolution
# Fraction of the intervals down to the last row, which would be decoded otherwise, above which finding the markers
# costs as much as it saves: 0.93 of the speed was measured for markers at the ends of rows only.
_WORTHWHILE = 0.85


class Cut(NamedTuple):
    """A part of a JPEG.

    Attributes:
        data: a complete JPEG of the part.
        top, left: position of the part in the whole image, in pixels; multiples of 8.
        height, width: size of the part in pixels.
    """

    data: bytes | bytearray
    top: int
    left: int
    height: int
    width: int


def cut_jpeg(data: bytes, header: JpegHeader, rows: tuple[int, int], columns: tuple[int, int]) -> Cut | None:
    """Returns the smallest part that contains the pixels `rows` x `columns` and ends at restart markers.

    Args:
        data: content of a JPEG file.
        header: its header.
        rows: (first row, last row + 1) in the image as it is stored.
        columns: (first column, last column + 1).

    Returns:
        None if the file has no restart markers that allow a much smaller part, or if they are damaged.
    """
    grid = _grid(header)
    if grid is None:
        return None
    (cell_height, cell_width), across, down = grid
    first_row, last_row = rows[0] // cell_height, -(-rows[1] // cell_height)
    first, last = columns[0] // cell_width, -(-columns[1] // cell_width)
    if (last_row - first_row) * (last - first) > _WORTHWHILE * last_row * across:
        return None
    top, left = first_row * cell_height, first * cell_width
    height, width = min(rows[1], header.height) - top, min(last * cell_width, header.width) - left
    starts = _interval_starts(data, header.coded_at, across * down)
    if starts is None:
        return None
    # Start of each interval that is kept, and behind its marker: (rows, columns + 1).
    kept = starts[np.arange(first_row, last_row)[:, None] * across + np.arange(first, last + 1)]
    at = header.height_at
    parts = [data[:at], height.to_bytes(2, 'big'), width.to_bytes(2, 'big'), data[at + 4:header.coded_at]]
    parts += [data[start:end] for start, end in zip(kept[:, 0].tolist(), kept[:, -1].tolist(), strict=True)]
    part = bytearray(b''.join(parts))
    lengths = kept[:, -1] - kept[:, 0]
    markers = (kept[:, 1:] - kept[:, :1] + (np.cumsum(lengths) - lengths)[:, None]).reshape(-1) + (header.coded_at - 1)
    np.frombuffer(part, np.uint8)[markers] = _FIRST_MARKER + np.arange(len(markers)) % 8
    part[-1] = _END
    return Cut(part, top, left, height, width)


def restart_interval(width: int) -> int:
    """MCUs of 16 pixels between the restart markers of a new file: at most an eighth of a row.

    Args:
        width: width of the image in pixels.

    Returns:
        The largest number that divides the MCUs of a row and is at most an eighth of them.
    """
    across = -(-width // _MCU)
    return next(number for number in range(max(1, across // 8), 0, -1) if across % number == 0)


def _grid(header: JpegHeader) -> tuple[tuple[int, int], int, int] | None:
    """Height and width of an interval in pixels, intervals in a row, and rows of them; None if they form no grid."""
    interval, (height, width) = header.restart_interval, header.mcu
    if not interval or not header.one_scan or 0 in header.mcu:
        return None
    across = -(-header.width // width)
    if across % interval == 0:
        size = height, interval * width
    elif interval % across == 0:
        size = height * (interval // across), across * width
    else:
        return None
    return size, -(-header.width // size[1]), -(-header.height // size[0])


def _interval_starts(data: bytes, start: int, number: int) -> np.ndarray | None:
    """Offsets of `number` intervals, and of the end of the file behind its marker; None if a marker is missing."""
    coded = np.frombuffer(data, np.uint8, offset=start)
    escaped = np.flatnonzero(coded[:-1] == 0xff)
    codes = coded[escaped + 1]
    is_marker = (codes & 0xf8) == _FIRST_MARKER
    is_marker |= codes == _END
    found, codes = escaped[is_marker][:number], codes[is_marker][:number]
    expected = _FIRST_MARKER + np.arange(number) % 8
    expected[-1] = _END
    if not np.array_equal(codes, expected):
        return None
    return np.concatenate([[0], found + 2]) + start
