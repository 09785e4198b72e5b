"""Grids of images with titles."""
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mae_backbone.utils.palette import Color
from mae_backbone.utils.picture_text import fitting_size, text_size, write_text

_MAX_ASPECT = 8  # largest width of a cell of a grid, in heights


def side_by_side(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], *, height: int = 192) -> np.ndarray:
    """rows of images (H, W, 3) uint8 RGB -> one picture with the same rows, and a title above each column.

    Images are scaled to `height` pixels, and images with an aspect ratio above 8 to a width of 8 times that. Small ones
    are enlarged with hard pixel edges, so that patches stay visible.
    """
    scaled = [[to_height(image, height, widest=_MAX_ASPECT * height) for image in row] for row in rows]
    widths = [max(row[column].shape[1] for row in scaled) for column in range(len(titles))]
    bars = [_pad_right(title_bar(title, width), 4) for title, width in zip(titles, widths, strict=True)]
    lines = [np.concatenate(bars, 1)]
    for row in scaled:
        cells = [_pad_right(image, width - image.shape[1] + 4) for image, width in zip(row, widths, strict=True)]
        lines.append(np.pad(np.concatenate(cells, 1), ((0, 4), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(lines)


def labeled(image: np.ndarray, text: str, right: bool | None, *, height: int = 192) -> np.ndarray:
    """image (H, W, 3) -> (height + 24, W', 3) with a text below it, after a tick or a cross unless `right` is None."""
    image = to_height(image, height)
    bar = title_bar(text if right is None else '    ' + text, max(image.shape[1], 1))
    if right is not None:
        lines = [[(4, 12), (8, 17), (15, 6)]] if right else [[(5, 6), (14, 17)], [(14, 6), (5, 17)]]
        cv2.polylines(bar, [np.array(line) for line in lines], False, (27, 127, 59) if right else (179, 38, 30), 2,
                      cv2.LINE_AA)
    return np.concatenate([image, bar])


def title_bar(title: str, width: int) -> np.ndarray:
    """White bar (24, width, 3) with a title, shrunk to fit."""
    bar, size = np.full((24, width, 3), 255, np.uint8), fitting_size(title, 14, width - 8)
    write_text(bar, title, 4, (24 - text_size(title, size)[1]) // 2, size)
    return bar


def legend(names: Sequence[str], colors: Sequence[Color], width: int) -> np.ndarray:
    """White bar (H, width, 3) with a square of each color and its name, in as many columns as fit."""
    font, line, square = 12, 20, 12
    cell = min(max([text_size(name, font)[0] for name in names], default=1) + square + 18, max(width, 1))
    columns = max(1, width // cell)
    rows = -(-len(names) // columns)
    bar = np.full((rows * line + 4 * bool(rows), width, 3), 255, np.uint8)
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        x, y = i % columns * cell + 4, i // columns * line + 6
        cv2.rectangle(bar, (x, y), (x + square, y + square), tuple(color), cv2.FILLED)
        cv2.rectangle(bar, (x, y), (x + square, y + square), (90, 90, 90), 1)
        size = fitting_size(name, font, cell - square - 12)
        write_text(bar, name, x + square + 5, y + (square - text_size(name, size)[1]) // 2, size)
    return bar


def add_legend(picture: np.ndarray, names: Sequence[str], colors: Sequence[Color]) -> np.ndarray:
    """picture (H, W, 3) -> (H', W, 3) with the names of the colors below it."""
    return np.concatenate([picture, legend(names, colors, picture.shape[1])])


def save_picture(path: str, picture: np.ndarray) -> None:
    """Writes a picture (H, W, 3) uint8 RGB. Raises OSError if it cannot be written."""
    suffix = Path(path).suffix
    if not suffix or not cv2.haveImageWriter(f'picture{suffix}'):
        raise OSError(f'{path} cannot be written as an image: choose a file name that ends in .png or .jpg')
    _, data = cv2.imencode(suffix, picture[..., ::-1])
    Path(path).write_bytes(data.tobytes())  # cv2.imwrite only returns False when it fails


def to_height(image: np.ndarray, height: int, *, widest: int | None = None) -> np.ndarray:
    """image (H, W, 3) -> (height, W', 3) with the same aspect ratio.

    An image that would be wider than `widest` (default: 8 times the height, or W if that is more) is scaled to that
    width, and padded with white at the bottom.
    """
    widest = max(image.shape[1], _MAX_ASPECT * height) if widest is None else widest
    scale = min(height / image.shape[0], widest / image.shape[1])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
    return np.pad(scaled, ((0, height - size[1]), (0, 0), (0, 0)), constant_values=255)


def _pad_right(image: np.ndarray, pixels: int) -> np.ndarray:
    return np.pad(image, ((0, 0), (0, pixels), (0, 0)), constant_values=255)
