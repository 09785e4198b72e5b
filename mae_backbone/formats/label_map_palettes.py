"""Label maps with a palette: each pixel has an index, and the palette has a color for each index."""
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from mae_backbone.data.label_colors import IGNORED, Color, LabelColors, UnknownColorError, hex_color
from mae_backbone.formats.dataset_spec import DataError

MODE = 'P'  # mode of PIL
_ADVICE = ('write all colors into classes.txt, as #rrggbb after each name, or save the maps without palettes, with the '
           'label of the class in each pixel')


def palette_colors(image: Image.Image) -> dict[int, Color]:
    """Returns the color of each index that an image with a palette uses.

    It is empty for an image without palette, and for a palette of gray levels that equal the indices: such a map has
    numbers. 255 marks pixels of no class. It is left out if it has no color, or the color of another index, with which
    programs fill palettes.
    """
    return _colors_of(image, _used(np.asarray(image))) if image.mode == MODE else {}


def _colors_of(image: Image.Image, used: Iterable[int]) -> dict[int, Color]:
    entries = np.array(image.getpalette() or [], int).reshape(-1, 3)
    if len(entries) > 1 and (entries == np.arange(len(entries))[:, None]).all():
        return {}
    is_fill = len(entries) > IGNORED and (entries[:IGNORED] == entries[IGNORED]).all(axis=1).any()
    return {index: (*entries[index].tolist(),) for index in used
            if index < len(entries) and not (index == IGNORED and is_fill)}


def labels_by_palette(image: Image.Image, colors: LabelColors) -> np.ndarray | None:
    """Reads the labels (H, W) of an image with a palette by the colors of its indices.

    Returns None if its indices are the labels, because no index that it uses has a color of a class. 255 without a
    color of a class marks pixels of no class.

    Raises:
        UnknownColorError: some of the indices have colors of classes, and others have not.
    """
    indices = np.asarray(image)
    used = _used(indices)
    palette = _colors_of(image, used)
    labels = {index: int(colors.labels(np.array(color, np.uint8))) for index, color in palette.items()
              if colors.has(color)}
    if not labels:
        return None
    unknown = [index for index in used if index not in labels and index != IGNORED]
    if unknown:
        names = ', '.join(f'index {index} {_hex(palette[index]) if index in palette else "without a color"}'
                          for index in unknown[:3])
        raise UnknownColorError(f'{len(unknown)} colors of no class in its palette ({names}'
                                f'{", ..." * (len(unknown) > 3)}), but other colors of classes. If the indices are the '
                                'labels, remove the colors from classes.txt')
    table = np.full(256, IGNORED, np.uint8)
    table[list(labels)] = list(labels.values())
    return table[indices]


def check_palettes(palettes: Iterable[tuple[str, Mapping[int, Color]]], colors: Sequence[Color]) -> None:
    """Refuses label maps whose palettes contradict each other, so that their indices cannot be the labels.

    Args:
        palettes: path of each map, and the result of `palette_colors`.
        colors: colors by which the maps are read; empty if indices are the labels.

    Raises:
        DataError: without colors of classes, an index has different colors in two maps. With them, some palettes have
            them and others have other colors.
    """
    by_index: dict[int, tuple[str, Color]] = {}
    kinds: dict[bool, str] = {}
    for path, palette in palettes:
        labeled = {color for index, color in palette.items() if index != IGNORED}
        if colors and labeled:
            kinds.setdefault(not labeled.isdisjoint(colors), path)
        for index, color in palette.items() if not colors else ():
            first, other = by_index.setdefault(index, (path, color))
            if color != other and index != IGNORED:
                raise DataError(f'label maps have different palettes: {index} is {_hex(other)} in {first}, but '
                                f'{_hex(color)} in {path}, so that it cannot be the label of one class: {_ADVICE}')
    if len(kinds) > 1:
        raise DataError(f'the palette of {kinds[True]} has colors of classes, but the palette of {kinds[False]} has '
                        f'none: {_ADVICE}')


def _used(indices: np.ndarray) -> list[int]:
    return np.flatnonzero(np.bincount(indices.ravel(), minlength=256)).tolist()


def _hex(color: Color) -> str:
    red, green, blue = color
    return hex_color(red << 16 | green << 8 | blue)
