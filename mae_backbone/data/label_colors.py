"""Label maps that say the class of a pixel by its color."""
from collections.abc import Sequence

import numpy as np

Color = tuple[int, int, int]  # red, green, blue in 0..255
IGNORED = 255  # the label of pixels of no class


class UnknownColorError(ValueError):
    """A label map has colors that no class has."""


class LabelColors:
    """The colors of the classes, and those of no class.

    Args:
        palette: the color of each class, in the order of their labels; at most 255.
        ignored: colors of pixels that belong to no class.

    Raises:
        ValueError: a color is that of two classes, is no color, or there are too many or none.
    """

    def __init__(self, palette: Sequence[Color], ignored: Sequence[Color] = ()) -> None:
        colors = np.array([*palette, *ignored])
        if not 0 < len(palette) <= IGNORED:
            raise ValueError(f'palette has {len(palette)} colors, wanted one for each class, 1 to {IGNORED}')
        if colors.shape[1:] != (3,) or colors.dtype.kind not in 'iu' or colors.min() < 0 or colors.max() > 255:
            raise ValueError(f'palette={palette!r:.80}: wanted (red, green, blue) in 0..255 for each class')
        codes = _codes(colors.astype(np.uint8))
        self._order = np.argsort(codes)
        self._codes = codes[self._order]
        twice = self._codes[1:][self._codes[1:] == self._codes[:-1]]
        if len(twice):
            raise ValueError(f'the color {written(twice[0])} stands for more than one class: give each its own')
        self._labels = np.array([*range(len(palette)), *[IGNORED] * len(ignored)], np.uint8)[self._order]

    def labels(self, pixels: np.ndarray) -> np.ndarray:
        """pixels (H, W, 3) uint8 RGB -> labels (H, W) uint8.

        Raises:
            UnknownColorError: there are such, which are named.
        """
        codes = _codes(pixels)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        other = self._codes[place] != codes
        if other.any():
            found, counts = np.unique(codes[other], return_counts=True)
            names = [f'{written(code)} ({count:,} pixels)' for code, count in zip(found[:3], counts[:3], strict=True)]
            raise UnknownColorError(f'{len(found)} colors of no class: {", ".join(names)}'
                                    + ', ...' * (len(found) > 3))
        return self._labels[place]


def written(code: int) -> str:
    """0xRRGGBB -> '#rrggbb'."""
    return f'#{code:06x}'


def _codes(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, 0xRRGGBB."""
    red, green, blue = np.moveaxis(pixels, -1, 0).astype(np.int32)
    return red << 16 | green << 8 | blue
