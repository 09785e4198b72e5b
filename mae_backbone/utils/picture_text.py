"""Writes text into pictures, in any script for which this machine has a font. OpenCV draws ASCII only."""
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mae_backbone.utils.fonts import drawable, find_font
from mae_backbone.utils.palette import Color

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def text_size(text: str, size: float) -> tuple[int, int]:
    """Returns width and height in pixels of a line of text. `size` is the size of the font in pixels."""
    text = drawable(text)
    font = _font(find_font(text), size)
    return -int(-font.getlength(text) // 1), sum(font.getmetrics())


def fitting_size(text: str, size: float, width: int, *, least: float = 5) -> float:
    """Returns a font size with which a text is not wider than `width` pixels: `size` or less, but not below `least`."""
    return max(least, min(size, size * width / max(text_size(text, size)[0], 1)))


def write_text(picture: np.ndarray, text: str, x: int, y: int, size: float, color: Color = BLACK, *,
               outline: Color | None = None) -> None:
    """Writes a line of text into a picture (H, W, 3) uint8 RGB, in place. What is outside of the picture is cut off.

    Args:
        picture: (H, W, 3) uint8 RGB.
        text: text with any characters. Those that no font has are escaped, such as `\\u732b`.
        x: left side of the text in pixels.
        y: upper side of the text in pixels.
        size: size of the font in pixels.
        color: color of the text.
        outline: color of a line around each letter, which makes text legible on any background.
    """
    text = drawable(text)
    width, height = text_size(text, size)
    stroke = max(1, round(size / 12)) if outline else 0
    left, top = max(x - stroke, 0), max(y - stroke, 0)
    region = picture[top:max(y + height + stroke, 0), left:max(x + width + stroke, 0)]
    if region.size:
        drawn = Image.fromarray(region)
        ImageDraw.Draw(drawn).text((x - left, y - top), text, fill=color, font=_font(find_font(text), size),
                                   anchor='la', stroke_width=stroke, stroke_fill=outline)
        region[:] = np.asarray(drawn)


def label_size(picture: np.ndarray) -> int:
    """Returns the font size in pixels for labels of boxes: 2 % of the short side of a picture, and at least 12."""
    return max(12, min(picture.shape[:2]) // 50)


def write_label(picture: np.ndarray, text: str, x: int, y: int, size: float, color: Color) -> None:
    """Writes a label above the upper left corner (x, y) of a box, on a background of its color, into a picture.

    The label is moved into the picture, if it has room there. The text is black or white.
    """
    width, height = text_size(text, size)
    x, y = min(max(x, 0), max(picture.shape[1] - width, 0)), max(y - height, 0)
    picture[y:y + height, x:x + width] = color
    is_bright = sum(value * weight for value, weight in zip(color, (0.3, 0.6, 0.1), strict=True)) > 128
    write_text(picture, text, x, y, size, BLACK if is_bright else WHITE)


@lru_cache(maxsize=64)
def _font(path: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
