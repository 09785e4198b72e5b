"""Classes of label maps: from a file with their names, or from the numbers and colors in the maps."""
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_backbone.data.label_colors import IGNORED, Color
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.label_map_files import open_label_map
from mae_backbone.formats.label_map_palettes import check_palettes, palette_colors
from mae_backbone.formats.layouts.class_files import read_class_files
from mae_backbone.formats.layouts.labeled_set import Findings
from mae_backbone.formats.messages import first_few

NUM_SAMPLED = 50  # number of maps that are read to find out whether they hold numbers or colors
_MAX_CLASSES = IGNORED
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
VOC_CLASSES = ('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
               'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train',
               'tvmonitor')  # order of the VOC devkit


class MapClasses(NamedTuple):
    """Classes of label maps. The attributes are those of `MapSet`."""

    names: list[str]
    colors: list[Color]
    ignored: list[Color]
    is_binary: bool


def classes_of_maps(root: Path, maps: Sequence[str], notes: Findings) -> MapClasses:
    """Returns the classes of label maps.

    Args:
        root: folder with a file of the classes, if there is one (`read_class_files`).
        maps: paths of the label maps relative to the root.
        notes: notes about classes without names are added to it.

    Raises:
        DataError: the classes of the values in the maps are not known, or a map cannot be read.
    """
    names, colors, ignored = read_class_files(root)
    encoding = _encoding(root, maps, [*colors, *ignored])
    colored = bool(encoding.colors) or not {*encoding.palette.values()}.isdisjoint([*colors, *ignored])
    is_binary = encoding.is_binary and len(names) <= 2 and not colors
    if is_binary:
        names = names if len(names) == 2 else ['background', *(names or ['foreground'])]
        colors = [_BLACK, _WHITE] if encoding.colors and not encoding.labels else []
    elif encoding.colors and not colors:
        names, colors, ignored = _by_colors(root, maps, notes)
    elif not names:
        names = _numbered(root, encoding, notes)
    return MapClasses(names, colors if colored else [], ignored if colored else [], is_binary and not colored)


class _Encoding(NamedTuple):
    labels: set[int]     # values in maps that hold numbers
    colors: set[Color]   # values in maps that hold colors
    is_voc: bool         # whether maps have Pascal VOC's palette
    palette: Mapping[int, Color] = {}  # color of each number in maps with a palette

    @property
    def is_binary(self) -> bool:
        """True if all values are 0 or 255."""
        return (bool(self.labels) and self.labels <= {0, IGNORED} and IGNORED in self.labels) or (
            _WHITE in self.colors and self.colors <= {_BLACK, _WHITE})


def hold_black_and_white(maps: Iterable[str]) -> bool:
    """True if label maps hold 0 and 255, or black and white, and nothing else. Stops at the first other map."""
    labels, colors = set[int](), set[Color]()
    for path in maps:
        values = _values(Path(path))
        if not (values.labels <= {0, IGNORED} and values.colors <= {_BLACK, _WHITE}):
            return False
        labels, colors = labels | values.labels, colors | values.colors
    return labels == {0, IGNORED} or colors == {_BLACK, _WHITE}


def _encoding(root: Path, maps: Sequence[str], colors: Sequence[Color]) -> _Encoding:
    """Reads a sample of the maps. Raises DataError if their palettes contradict each other."""
    paths = [root / name for name in evenly_spaced(maps, NUM_SAMPLED)]
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(_values, paths))
    check_palettes(((str(path), sample.palette) for path, sample in zip(paths, samples, strict=True)), colors)
    return _Encoding(set().union(*(sample.labels for sample in samples)),
                     set().union(*(sample.colors for sample in samples)), any(sample.is_voc for sample in samples),
                     {index: color for sample in samples for index, color in sample.palette.items()})


def _values(path: Path) -> _Encoding:
    """Labels or colors of a map. Raises DataError if it cannot be read."""
    try:
        with open_label_map(str(path)) as image:
            pixels = np.asarray(image)
            entries, palette = image.getpalette() or [], palette_colors(image)
    except Exception as error:  # PIL raises many kinds of errors for broken files
        raise DataError(f'{path} cannot be read as a label map ({type(error).__name__}: {error}): copy it again, or '
                        'remove it and its image') from error
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        codes = np.unique(pixels[..., :3].astype(np.int64) @ np.array([65536, 256, 1]))
        return _Encoding(set(), {(code >> 16, code >> 8 & 255, code & 255) for code in codes[:1000].tolist()}, False)
    if pixels.ndim != 2 or pixels.dtype.kind not in 'bui':
        raise DataError(f'{path} has the shape {pixels.shape} and {pixels.dtype} numbers, expected one number or color '
                        'per pixel: save it as 8-bit PNG')
    # The first colors of VOC's palette: black, dark red, dark green.
    return _Encoding(set(np.unique(pixels).astype(int).tolist()), set(), entries[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0],
                     palette)


def _by_colors(root: Path, maps: Sequence[str], notes: Findings) -> tuple[list[str], list[Color], list[Color]]:
    """Makes each color of all maps a class."""
    with ThreadPoolExecutor(8) as pool:
        values = pool.map(_values, [root / name for name in maps])
        colors = sorted(set().union(*(value.colors for value in values)))
    if len(colors) > _MAX_CLASSES:
        raise DataError(f'{root}: the label maps have {len(colors):,} colors, and no classes.txt says which of them '
                        f'are classes: write classes.txt into {root}, a name and a color such as "road #804080" in '
                        'each line. Maps must not be smoothed or saved as JPEG')
    names = [f'color {red:02x}{green:02x}{blue:02x}' for red, green, blue in colors]
    notes.add('colors without a name, which are classes named by their color: write a classes.txt, a name and a color '
              'such as "road #804080" in each line', str(root))
    return names, colors, []


def _numbered(root: Path, encoding: _Encoding, notes: Findings) -> list[str]:
    labels = encoding.labels - {IGNORED}
    if encoding.is_voc and max(labels, default=0) < len(VOC_CLASSES):
        return list(VOC_CLASSES)
    count = max(labels, default=0) + 1
    if count > 2 * len(labels) + 1:
        raise DataError(f'{root}: label maps have the numbers {first_few(sorted(labels))}, and no classes.txt '
                        f'names the classes: expected 0, 1, 2, ... and {IGNORED} for pixels of no class. Map the '
                        f'numbers, or write classes.txt into {root} with a name for each number from 0 on')
    notes.add('classes without names, which are numbered: write a classes.txt with a name in each line', str(root))
    return [f'class {label}' for label in range(count)]
