"""Names and colors of the classes of label maps, in the files that programs write next to the maps."""
import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

from mae_backbone.data.label_colors import Color
from mae_backbone.formats.classes_txt import ClassFile, checked_classes, read_classes
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.files import read_text
from mae_backbone.formats.messages import first_few

_NONE = ClassFile([], [], [])
_COLOR_COLUMNS = (('r', 'g', 'b'), ('red', 'green', 'blue'))


def read_class_files(root: Path) -> ClassFile:
    """Reads classes.txt, or another file with the classes in the folder or one of its subfolders; empty if none exists.

    Others are `labelmap.txt` of CVAT, `label_colors.txt` of CamVid, `class_dict.csv` with columns name, r, g, b, and
    `_classes.csv` of Roboflow.

    Raises:
        DataError: a file is faulty, or files of several folders name different classes.
    """
    if (root / 'classes.txt').is_file():
        return read_classes(root / 'classes.txt')
    for pattern, read in _READERS.items():
        files = {path: read(path) for path in sorted([*root.glob(pattern), *root.glob(f'*/{pattern}')])}
        found = {path: content for path, content in files.items() if content.names}
        if found:
            first, content = next(iter(found.items()))
            for path, other in found.items():
                if other != content:
                    raise DataError(f'{first} and {path} have different classes ({first_few(content.names)}; '
                                    f'{first_few(other.names)}): correct one, or write classes.txt into {root}')
            return checked_classes(first, content)
    return _NONE


def has_other_class_file(root: Path) -> bool:
    """True if a folder has no classes.txt, but another file with the classes, or a classes.txt in a subfolder."""
    return not (root / 'classes.txt').is_file() and bool(read_class_files(root).names)


def _read_labelmap(path: Path) -> ClassFile:
    """Reads lines `name:red,green,blue:parts:actions`."""
    names, colors = [], []
    for position, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith('#'):
            continue
        match = re.match(r'(?P<name>[^:]+):(\d{1,3}),(\d{1,3}),(\d{1,3}):', line)
        if not match:
            raise DataError(f'{path}, line {position}: {line!r:.60}, expected name:red,green,blue::')
        names.append(match['name'].strip())
        colors.append(_color(match[2], match[3], match[4], f'{path}, line {position}'))
    return ClassFile(names, colors, [])


def _read_label_colors(path: Path) -> ClassFile:
    """Reads lines `red green blue name`; empty for a file with other lines."""
    matches = [re.fullmatch(r'(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*)', line.strip())
               for line in read_text(path).splitlines() if line.strip()]
    lines = [match for match in matches if match]
    if len(lines) < len(matches):
        return _NONE
    return ClassFile([match[4].strip() for match in lines],
                     [_color(match[1], match[2], match[3], str(path)) for match in lines], [])


def _read_class_dict(path: Path) -> ClassFile:
    """Reads columns of a name and a color; empty for a file with other columns."""
    rows = _rows(path)
    columns = [name.strip().lower() for name in rows[0]] if rows else []
    parts = next((parts for parts in _COLOR_COLUMNS if {*parts} <= {*columns}), None)
    label = next((name for name in ('name', 'class', 'label') if name in columns), None)
    if parts is None or label is None:
        return _NONE
    names, colors = [], []
    for position, row in enumerate(rows[1:], start=2):
        if len(row) < len(columns):
            raise DataError(f'{path}, line {position} has {len(row)} values, expected {len(columns)}')
        names.append(row[columns.index(label)].strip())
        red, green, blue = (row[columns.index(part)].strip() for part in parts)
        colors.append(_color(red, green, blue, f'{path}, line {position}'))
    return ClassFile(names, colors, [])


def _read_pixel_values(path: Path) -> ClassFile:
    """Reads columns `Pixel Value` and `Class`; empty for a file with other columns.

    Raises:
        DataError: the values are not 0, 1, 2, ...
    """
    rows = _rows(path)
    if [name.strip().lower() for name in rows[0][:2]] != ['pixel value', 'class'] if rows else True:
        return _NONE
    values = [row[0].strip() for row in rows[1:]]
    if values != [str(value) for value in range(len(values))]:
        raise DataError(f'{path} has the pixel values {first_few(values)}, expected 0, 1, 2, ... in this order')
    return ClassFile([row[1].strip() for row in rows[1:]], [], [])


def _rows(path: Path) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(read_text(path)), skipinitialspace=True))
    except csv.Error as error:
        raise DataError(f'{path}: not CSV ({error}): export it again') from error
    rows = [row for row in rows if any(value.strip() for value in row)]
    return rows if all(len(row) > 1 for row in rows) else []


def _color(red: str, green: str, blue: str, place: str) -> Color:
    if not all(part.isdecimal() and int(part) < 256 for part in (red, green, blue)):
        raise DataError(f'{place}: the color is {red}, {green}, {blue}, expected three numbers from 0 to 255')
    return int(red), int(green), int(blue)


_READERS: dict[str, Callable[[Path], ClassFile]] = {
    'classes.txt': read_classes, 'labelmap.txt': _read_labelmap, 'label_colors.txt': _read_label_colors,
    '*class_dict*.csv': _read_class_dict, '_classes.csv': _read_pixel_values}
