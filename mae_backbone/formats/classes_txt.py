"""Reads classes.txt, a file with the names of the classes of label maps, and optionally their colors."""
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mae_backbone.data.label_colors import Color, LabelColors
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.messages import first_few

_HEX = '[0-9a-fA-F]{2}'
_NAME_AND_COLOR = re.compile(rf'(?P<name>.*\S)\s+#(?P<red>{_HEX})(?P<green>{_HEX})(?P<blue>{_HEX})')
NO_CLASS = '-'  # used instead of a name for the color of pixels that belong to no class


class ClassFile(NamedTuple):
    """Content of a classes.txt."""

    names: list[str]      # class names in the order of the labels, from 0
    colors: list[Color]   # color of each class; empty if the file has no colors
    ignored: list[Color]  # colors of pixels that belong to no class


def read_classes(path: str | Path) -> ClassFile:
    """Reads a file with one class per line: its name, optionally followed by its color #rrggbb.

    The first line is the class of label 0. Either all classes have a color or none of them. A line with the name `-`
    has the color of pixels that belong to no class.

    Raises:
        DataError: the file is not text, is empty, has empty lines, repeats a name or a color, or has colors for only
            some of the classes.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding='utf-8-sig').rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is not text in UTF-8 (byte {error.start}): expected one class name per line'
                        ) from error
    if not lines or not all(lines):
        raise DataError(f'{path} {"has empty lines" if lines else "is empty"}: expected one class name per line, the '
                        'first for label 0')
    entries = [_parse_line(line) for line in lines]
    ignored = [color for name, color in entries if name == NO_CLASS and color]
    classes = [(name, color) for name, color in entries if name != NO_CLASS or not color]
    names, colors = [name for name, _ in classes], [color for _, color in classes if color]
    return checked_classes(path, ClassFile(names, colors, ignored))


def _parse_line(line: str) -> tuple[str, Color | None]:
    match = _NAME_AND_COLOR.fullmatch(line) if '#' in line else None
    if match is None:
        return line, None
    return match['name'], (int(match['red'], 16), int(match['green'], 16), int(match['blue'], 16))


def checked_classes(path: str | Path, content: ClassFile) -> ClassFile:
    """Returns the content of a file. Raises DataError for repeated names or colors, or colors of some classes only."""
    names, colors, ignored = content
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise DataError(f'{path} names {first_few(repeated)} more than once: give every label a unique name')
    if (colors or ignored) and len(colors) != max(1, len(names)):
        raise DataError(f'{path} has colors for {len(colors)} of its {len(names)} classes: write a color such as '
                        '#804080 after every name, or after none')
    if colors:
        try:
            LabelColors(colors, ignored)
        except ValueError as error:
            raise DataError(f'{path}: {error}') from error
    return content
