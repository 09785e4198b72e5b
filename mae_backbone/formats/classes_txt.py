"""classes.txt: the names of the classes of label maps, and their colors."""
import re
from pathlib import Path
from typing import NamedTuple

from mae_backbone.data.label_colors import Color, LabelColors
from mae_backbone.formats.dataset_spec import DataError, some

_COLORED = re.compile(r'(?P<name>.*\S)\s+#(?P<color>[0-9a-fA-F]{6})')
NONE = '-'  # what stands in the place of a name for pixels of no class


class ClassFile(NamedTuple):
    """What a classes.txt says."""

    names: list[str]  # in the order of the labels, from 0
    colors: list[Color]  # of each, empty where the file has none
    ignored: list[Color]  # of pixels of no class


def read_classes(path: str | Path) -> ClassFile:
    """Reads a class a line, the first for label 0: its name, then its color as #rrggbb or nothing.

    Where one class has a color all have. A line with the name `-` gives a color of pixels of no class.

    Raises:
        DataError: it is no text, is empty, has a gap, a name or a color twice, or colors for some classes only.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding='utf-8-sig').rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is no text in UTF-8 (byte {error.start}): wanted one class name a line') from error
    if not lines or not all(lines):
        raise DataError(f'{path} {"has empty lines" if lines else "is empty"}: wanted one class name a line, the first '
                        'for label 0')
    entries = [_entry(line) for line in lines]
    ignored = [color for name, color in entries if name == NONE and color]
    classes = [(name, color) for name, color in entries if name != NONE or not color]
    names, colors = [name for name, _ in classes], [color for _, color in classes if color]
    _check(path, names, colors, ignored)
    return ClassFile(names, colors, ignored)


def _entry(line: str) -> tuple[str, Color | None]:
    found = _COLORED.fullmatch(line)
    if found is None:
        return line, None
    return found['name'], tuple(bytes.fromhex(found['color']))


def _check(path: str | Path, names: list[str], colors: list[Color], ignored: list[Color]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f'{path} names {some(twice)} more than once: give each label a name of its own')
    if (colors or ignored) and len(colors) != max(1, len(names)):
        raise DataError(f'{path} has colors for {len(colors)} of its {len(names)} classes: write a color such as '
                        '#804080 after every name, or after none')
    if colors:
        try:
            LabelColors(colors, ignored)
        except ValueError as error:
            raise DataError(f'{path}: {error}') from error
