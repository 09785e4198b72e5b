"""CSV lists of boxes: a line for each box, with the image, the corners and the class."""
import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.files import large_limit, number, read_text
from mae_backbone.formats.layouts.image_index import ImageIndex, stated_size
from mae_backbone.formats.layouts.labeled_set import (
    SPLIT_NAMES,
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    note_shared_groups,
    round_box,
    split_in_path,
)
from mae_backbone.formats.layouts.layout import Layout, first_files, label_files, refuse_faulty_files
from mae_backbone.formats.messages import first_few

# Our name of a column -> names that programs write.
COLUMNS = {
    'image': ('filename', 'file_name', 'file', 'image', 'image_path', 'path', 'image_id', 'imageid', 'img', 'name'),
    'label': ('label', 'class', 'class_name', 'category', 'label_name', 'labelname'),
    'xmin': ('xmin', 'x1', 'x_min', 'left'), 'ymin': ('ymin', 'y1', 'y_min', 'top'),
    'xmax': ('xmax', 'x2', 'x_max', 'right'), 'ymax': ('ymax', 'y2', 'y_max', 'bottom'),
    'width': ('width', 'image_width'), 'height': ('height', 'image_height'),
    'split': ('split', 'set', 'subset'), 'group': ('group', 'group_id', 'patient', 'patient_id'),
    'crowd': ('isgroupof', 'is_group_of', 'iscrowd', 'is_crowd'),
}
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
PATTERNS = ('*.csv', '*/*.csv')
_WITHOUT_HEADER = ('image', *CORNERS, 'label')  # columns of keras-retinanet, which writes no names of columns
_NO_NAME = 'object'  # class of boxes without a column of the class
_DESCRIPTIONS = ('*class-descriptions*.csv', '*/*class-descriptions*.csv')  # Open Images: code and name of a class


class Row(dict[str, str]):
    """Values of a line by our names of the columns, with its place."""

    place: str = ''


class Values(list[str]):
    """Values of a line in their order, with its place."""

    place: str = ''


def detect(root: Path) -> bool:
    """True if there is a CSV file with columns of an image, four corners and a class, or without unknown columns."""
    return bool(_files(root))


def read(root: Path) -> LabeledSet:
    """Reads all CSV files with boxes. A line with a name and empty corners is a background image.

    If all corners are between 0 and 1, they are fractions of the size of the image, as in Open Images. Splits come from
    a column `split`, the name of the file, or the folders of the images; groups from a column `group`. Boxes are of the
    class `object` if there is no column of the class, and all columns are known.

    Raises:
        DataError: a line is not a valid box, or an image is missing.
    """
    left_out, notes = Findings(), Findings()
    index = ImageIndex(root, notes)
    rows: dict[str, list[Row]] = defaultdict(list)
    split_of: dict[str, str] = {}
    refuse_faulty_files(root, PATTERNS)
    for path in _files(root):
        folder = path.parent.relative_to(root).as_posix().removeprefix('.')
        file_split = SPLIT_NAMES.get(path.stem.lower(), split_in_path(path.relative_to(root).as_posix()))
        if not _has_classes(path):
            notes.add(f'boxes without a column of the class, which are of the class {_NO_NAME}', str(path))
        for row in read_rows(path):
            image = find_image(index, row, path, folder, file_split)
            rows[image].append(row)
            split = row_split(row, file_split) or split_in_path(image)
            if split_of.setdefault(image, split) != split:
                raise DataError(f'{row.place}: {image} is in the splits {split_of[image]} and {split}: keep one')
    sizes = index.sizes(rows)
    is_fraction = _are_fractions(row for lines in rows.values() for row in lines)
    descriptions = _descriptions(root)
    images = []
    for image in sorted(rows):
        first = rows[image][0]
        stated = tuple(number(first.get(side) or 0, first.place, side) for side in ('width', 'height'))
        size = stated_size(sizes[image], (stated[0], stated[1]), first.place, image)
        objects = [labeled._replace(name=descriptions.get(labeled.name, labeled.name)) for row in rows[image]
                   if (labeled := _object(row, size if is_fraction else (1, 1)))]
        if is_fraction and objects:
            notes.add('images with corners between 0 and 1, which are read as fractions of the image', image)
        images.append(LabeledImage(image, size, objects, split_of[image], first.get('group', '')))
    for name in sorted({*index.names} - rows.keys()):
        left_out.add('images that no CSV file names', name)
    note_shared_groups(images, notes)
    names = sorted({labeled.name for image in images for labeled in image.objects})
    return LabeledSet(root, 'CSV with boxes', names, images, left_out, notes)


LAYOUT = Layout('CSV with boxes', detect, read)


def _files(root: Path) -> list[Path]:
    return label_files(root, PATTERNS, _has_boxes)


def _has_boxes(path: Path) -> bool:
    first = peek(path).splitlines()[:1]
    columns = columns_of(first).keys()
    return _is_row(first) or ({'image', *CORNERS} <= columns and (
        _has_classes(path) or len(columns) == len(header_of(first))))


def _has_classes(path: Path) -> bool:
    """True if a CSV file of boxes has a column of the class."""
    first = peek(path).splitlines()[:1]
    return 'label' in columns_of(first) or _is_row(first)


def _is_row(first: Sequence[str]) -> bool:
    """True if the first line of a CSV file is not a header, but the corners of a box in an image."""
    values = header_of(first)
    return len(values) == len(_WITHOUT_HEADER) and values[0].endswith(IMAGE_SUFFIXES) and (
        not any(values[1:]) or all(re.fullmatch(r'-?\d+(\.\d*)?', value) for value in values[1:5]))


def columns_of(header: Sequence[str]) -> dict[str, int]:
    """Positions of our columns in the first line of a CSV file; empty without one."""
    words = header_of(header)
    return {column: min(words.index(name) for name in names if name in words) for column, names in COLUMNS.items()
            if any(name in words for name in names)}


def header_of(lines: Sequence[str]) -> list[str]:
    """Returns the names in the first line of a CSV file, in lower case; empty without one, or if it is not CSV."""
    try:
        return [word.strip().lower() for word in next(csv.reader(lines[:1], delimiter=_delimiter(lines)), [])]
    except csv.Error:  # names longer than Python reads; before Python 3.11 also a null character
        return []


def _delimiter(lines: Sequence[str]) -> str:
    return Counter(char for char in ''.join(lines[:1]) if char in ',;\t').most_common(1)[0][0] if any(
        char in ',;\t' for char in ''.join(lines[:1])) else ','


def read_rows(path: Path) -> Iterator[Row]:
    """Yields the lines of a CSV file without its header. Raises DataError for a line with too few values."""
    first = peek(path).splitlines()[:1]
    columns = {name: position for position, name in enumerate(_WITHOUT_HEADER)} if _is_row(first) else columns_of(first)
    for values in read_values(path):
        if len(values) <= max(columns.values()):
            raise DataError(f'{values.place} has {len(values)} values, expected {max(columns.values()) + 1} as in the '
                            'first line')
        row = Row(dict(label=_NO_NAME) | {column: values[position] for column, position in columns.items()})
        row.place = values.place
        yield row


def read_values(path: Path) -> Iterator[Values]:
    """Yields the values in the lines of a CSV file without its header. Raises DataError if it is not CSV."""
    text = read_text(path, limit=large_limit())
    first = text.splitlines()[:1]
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(first))
    try:
        if not _is_row(first):
            next(reader)
        for texts in reader:
            if any(text.strip() for text in texts):
                values = Values(text.strip() for text in texts)
                values.place = f'{path}, line {reader.line_num}'
                yield values
    except csv.Error as error:
        raise DataError(f'{path}, line {reader.line_num}: not CSV ({error}): export it again') from error


def find_image(index: ImageIndex, row: Row, path: Path, folder: str, split: str) -> str:
    """Image that a line names. Raises DataError if there is none."""
    name = row['image']
    folders = (folder, '', 'images', f'images/{split}', split, path.stem, f'{folder}/images'.strip('/'))
    image = index.find(name, folders=folders) if name else ''
    if not image:  # ids without a suffix
        image = index.find_stem(name, folders=[*folders, *sorted({name.rpartition('/')[0] for name in index.names})],
                                place=row.place) if name else ''
    if not image:
        raise DataError(f'{row.place}: {name!r:.80} is no image below {index.root}{index.reason(name)}: add it, '
                        'or remove the line')
    return image


def row_split(row: Row, default: str) -> str:
    """Split of a line. Raises DataError for an unknown name in the column `split`."""
    stated = row.get('split', '').lower()
    if stated and stated not in SPLIT_NAMES:
        raise DataError(f'{row.place}: the split is {stated!r:.20}, expected one of {first_few(SPLIT_NAMES)}')
    return SPLIT_NAMES[stated] if stated else default


def _are_fractions(rows: Iterable[Row]) -> bool:
    """True if there are boxes, and all of their corners are between 0 and 1."""
    corners = [number(row[key], row.place, key) for row in rows if any(row[key] for key in CORNERS) for key in CORNERS]
    return bool(corners) and 0 <= min(corners) and max(corners) <= 1


def _descriptions(root: Path) -> dict[str, str]:
    """Names of the classes of Open Images by their codes; empty without a file of them."""
    names: dict[str, str] = {}
    for path in sorted(path for pattern in _DESCRIPTIONS for path in first_files(root, pattern)):
        try:
            lines = [values for values in csv.reader(io.StringIO(read_text(path))) if len(values) == 2]
        except csv.Error as error:
            raise DataError(f'{path}: not CSV ({error}): export it again') from error
        names |= {code.strip(): name.strip() for code, name in lines}
    return names


def _object(row: Row, unit: tuple[int, int]) -> LabeledObject | None:
    """The box of a line, whose corners are in `unit` (x, y) pixels; None for a background image."""
    if not any(row[key] for key in CORNERS):
        return None
    if not row['label']:
        raise DataError(f'{row.place}: the class is empty: name it, or remove the line')
    left, top, right, bottom = (number(row[key], row.place, key) for key in CORNERS)
    if left > right or top > bottom:
        raise DataError(f'{row.place}: xmin, ymin, xmax, ymax are {left:g}, {top:g}, {right:g}, {bottom:g}: the '
                        'minimum is larger than the maximum. Correct or remove the box')
    box = round_box(left * unit[0], top * unit[1], right * unit[0], bottom * unit[1])
    return LabeledObject(row['label'], box, is_crowd=row.get('crowd', '').lower() in ('1', 'true'))
