"""Label maps that encode classes as colors."""
from collections.abc import Sequence

import numpy as np

Color = tuple[int, int, int]  # red, green, blue in 0..255
IGNORED = 255  # label of pixels without a class


class UnknownColorError(ValueError):
    """Error: a label map has colors that belong to no class."""


class LabelColors:
    """Colors of the classes, and colors of pixels without a class.

    Args:
        palette: one color per class, in the order of the labels, at most 255.
        ignored: colors of pixels without a class.

    Raises:
        ValueError: two classes have the same color, a color is invalid, or there are none or too many.
    """

    def __init__(self, palette: Sequence[Color], ignored: Sequence[Color] = ()) -> None:
        colors = np.array([*palette, *ignored])
        if not 0 < len(palette) <= IGNORED:
            raise ValueError(f'palette has {len(palette)} colors, expected one per class, 1 to {IGNORED}')
        if colors.shape[1:] != (3,) or colors.dtype.kind not in 'iu' or colors.min() < 0 or colors.max() > 255:
            raise ValueError(f'palette={palette!r:.80}, expected (red, green, blue) in 0..255 for each class')
        codes = _codes(colors.astype(np.uint8))
        self._order = np.argsort(codes)
        self._codes = codes[self._order]
        duplicates = self._codes[1:][self._codes[1:] == self._codes[:-1]]
        if len(duplicates):
            raise ValueError(f'the color {hex_color(duplicates[0])} belongs to more than one class: use a different '
                             'color for each')
        self._labels = np.array([*range(len(palette)), *[IGNORED] * len(ignored)], np.uint8)[self._order]

    def has(self, color: Color) -> bool:
        """True if a color belongs to a class, or marks pixels without a class."""
        return bool((self._codes == _codes(np.array(color, np.uint8))).any())

    def labels(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (..., 3) uint8 RGB, such as (H, W, 3) -> labels (...) uint8.

        Raises:
            UnknownColorError: some pixels have a color of no class; the message names the colors.
        """
        codes = _codes(pixels)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        is_unknown = self._codes[place] != codes
        if is_unknown.any():
            unknown, counts = np.unique(codes[is_unknown], return_counts=True)
            names = [f'{hex_color(code)} ({count:,} pixels)'
                     for code, count in zip(unknown[:3], counts[:3], strict=True)]
            raise UnknownColorError(f'{len(unknown)} colors of no class: ' + ', '.join(names)
                                    + ', ...' * (len(unknown) > 3))
        return self._labels[place]


def hex_color(code: int) -> str:
    """0xRRGGBB -> '#rrggbb'."""
    return f'#{code:06x}'


def _codes(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32 codes 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.int32)
    return red << 16 | green << 8 | blue
