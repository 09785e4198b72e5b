"""classes.txt: the names of the classes of label maps, and their colours."""
import re
from pathlib import Path
from typing import NamedTuple

from mae_backbone.data.label_colors import Colour, LabelColours
from mae_backbone.formats.dataset_spec import DataError, some

_COLOURED = re.compile(r'(?P<name>.*\S)\s+#(?P<colour>[0-9a-fA-F]{6})')
NONE = '-'  # what stands in the place of a name for pixels of no class


class ClassFile(NamedTuple):
    """What a classes.txt says."""

    names: list[str]  # in the order of the labels, from 0
    colours: list[Colour]  # of each, empty where the file has none
    ignored: list[Colour]  # of pixels of no class


def read_classes(path: str | Path) -> ClassFile:
    """Reads a class a line, the first for label 0: its name, then its colour as #rrggbb or nothing.

    Where one class has a colour all have. A line with the name `-` gives a colour of pixels of no class.

    Raises:
        DataError: it is no text, is empty, has a gap, a name or a colour twice, or colours for some classes only.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding='utf-8-sig').rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is no text in UTF-8 (byte {error.start}): wanted one class name a line') from error
    if not lines or not all(lines):
        raise DataError(f'{path} {"has empty lines" if lines else "is empty"}: wanted one class name a line, the first '
                        'for label 0')
    entries = [_entry(line) for line in lines]
    ignored = [colour for name, colour in entries if name == NONE and colour]
    classes = [(name, colour) for name, colour in entries if name != NONE or not colour]
    names, colours = [name for name, _ in classes], [colour for _, colour in classes if colour]
    _check(path, names, colours, ignored)
    return ClassFile(names, colours, ignored)


def _entry(line: str) -> tuple[str, Colour | None]:
    found = _COLOURED.fullmatch(line)
    if found is None:
        return line, None
    return found['name'], tuple(bytes.fromhex(found['colour']))


def _check(path: str | Path, names: list[str], colours: list[Colour], ignored: list[Colour]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f'{path} names {some(twice)} more than once: give each label a name of its own')
    if (colours or ignored) and len(colours) != max(1, len(names)):
        raise DataError(f'{path} has colours for {len(colours)} of its {len(names)} classes: write a colour such as '
                        '#804080 after every name, or after none')
    if colours:
        try:
            LabelColours(colours, ignored)
        except ValueError as error:
            raise DataError(f'{path}: {error}') from error
