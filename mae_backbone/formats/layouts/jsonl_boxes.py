"""Boxes in `metadata.jsonl` files of Hugging Face's `imagefolder`: a line of JSON for each image."""
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mae_backbone.formats.classes_txt import read_classes
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.files import large_limit, number, read_text
from mae_backbone.formats.layouts.image_index import ImageIndex
from mae_backbone.formats.layouts.labeled_set import (
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    round_box,
    split_in_path,
)
from mae_backbone.formats.layouts.layout import Layout, label_files, refuse_faulty_files

_PATTERNS = ('*.jsonl', '*/*.jsonl')
_BOX_KEYS, _CLASS_KEYS = ('bbox', 'bboxes'), ('category', 'categories', 'label', 'labels', 'class', 'category_id')


class _Line(NamedTuple):
    """A line of a file: name of its image, boxes, class of each box as a name or a number, and its place."""

    file_name: str
    boxes: list[Any]
    classes: list[Any]
    place: str


def detect(root: Path) -> bool:
    """True if there are JSON Lines with `file_name` and boxes in `objects`."""
    return bool(_files(root))


def read(root: Path) -> LabeledSet:
    """Reads boxes x, y, width, height in pixels, as in COCO's format.

    Classes are names, or numbers from 0 that classes.txt names. Splits come from folders named train, val and test. An
    image without boxes is a background image.

    Raises:
        DataError: a line is damaged, an image is missing or repeated, or a class has no name.
    """
    refuse_faulty_files(root, _PATTERNS)
    left_out, notes = Findings(), Findings()
    index = ImageIndex(root, notes)
    lines: dict[str, _Line] = {}
    for path in _files(root):
        folder = path.parent.relative_to(root).as_posix().removeprefix('.')
        for line in _lines_of(path):
            image = index.get(line.file_name, line.place, folders=(folder, '', 'images'))
            if image in lines:
                raise DataError(f'{line.place}: {image} is also in {lines[image].place}: keep one of the two lines')
            lines[image] = line
    names = _names(root, lines, notes)
    sizes = index.sizes(lines)
    images = [LabeledImage(image, sizes[image].upright, list(_objects(lines[image], names)), split_in_path(image))
              for image in sorted(lines)]
    for name in sorted({*index.names} - lines.keys()):
        left_out.add('images that no line names', name)
    used = {labeled.name for image in images for labeled in image.objects}
    return LabeledSet(root, 'JSON Lines with boxes', names or sorted(used), images, left_out, notes)


LAYOUT = Layout('JSON Lines with boxes', detect, read)


def _files(root: Path) -> list[Path]:
    return label_files(root, _PATTERNS, _has_boxes)


def _has_boxes(path: Path) -> bool:
    """True if the first line has a file name and boxes, as far as its first 64 KB show."""
    text = peek(path).lstrip().split('\n', 1)[0]
    return text.startswith('{') and '"file_name"' in text and '"objects"' in text and any(
        f'"{key}"' in text for key in _BOX_KEYS)


def _lines_of(path: Path) -> Iterator[_Line]:
    for position, text in enumerate(read_text(path, limit=large_limit()).splitlines(), start=1):
        place = f'{path}, line {position}'
        if not text.strip():
            continue
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f'{place}: not JSON ({error!s:.80}): the file is damaged or truncated, export it again'
                            ) from error
        if not isinstance(content, dict) or not isinstance(content.get('file_name'), str):
            raise DataError(f'{place} has no file_name: expected {{"file_name": ..., "objects": ...}}')
        yield _Line(content['file_name'], *_boxes_and_classes(content.get('objects'), place), place)


def _boxes_and_classes(objects: Any, place: str) -> tuple[list[Any], list[Any]]:
    """Boxes and their classes, from a dict of lists or a list of dicts."""
    if not objects:
        return [], []
    keys = [next((key for key in names if key in (objects if isinstance(objects, dict) else objects[0])), '')
            for names in (_BOX_KEYS, _CLASS_KEYS)] if isinstance(objects, (dict, list)) else ['', '']
    if not all(keys):
        raise DataError(f'{place}: objects is {str(objects)!r:.60}, expected {{"bbox": [[x, y, width, height], ...], '
                        '"category": [...]}')
    rows = [objects] if isinstance(objects, dict) else objects
    if not all(isinstance(row, dict) and row.keys() >= {*keys} for row in rows):
        raise DataError(f'{place}: some of the objects have no {keys[0]} or no {keys[1]}: add it')
    boxes, classes = ([row[key] for row in rows] for key in keys)
    if isinstance(objects, dict):
        boxes, classes = boxes[0], classes[0]
    if not isinstance(boxes, list) or not isinstance(classes, list) or len(boxes) != len(classes):
        raise DataError(f'{place}: {keys[0]} and {keys[1]} are not lists of the same length: give each box a class')
    return boxes, classes


def _names(root: Path, lines: dict[str, _Line], notes: Findings) -> list[str]:
    """Names of numbered classes, in the order of the numbers; empty if the classes are names already."""
    numbers = []
    for line in lines.values():
        for value in line.classes:
            is_name, is_number = isinstance(value, str), isinstance(value, int) and not isinstance(value, bool)
            if not (is_name and value.strip()) and not (is_number and value >= 0):
                raise DataError(f'{line.place}: a class is {value!r:.40}, expected a name or a number from 0')
            numbers += [value] if is_number else []
    if not numbers:
        return []
    if any(isinstance(value, str) for line in lines.values() for value in line.classes):
        raise DataError(f'{root}: some classes are names and some are numbers: use one of them')
    file = root / 'classes.txt'
    names = read_classes(file).names if file.is_file() else [f'class {label}' for label in range(max(numbers) + 1)]
    if max(numbers) >= len(names):
        raise DataError(f'{file} names {len(names)} classes, but there is an object of class {max(numbers)}, counted '
                        'from 0: complete the file')
    if not file.is_file():
        notes.add('classes without names, which are numbered: write a classes.txt with a name in each line', str(root))
    return names


def _objects(line: _Line, names: list[str]) -> Iterator[LabeledObject]:
    for box, value in zip(line.boxes, line.classes, strict=True):
        if not isinstance(box, list) or len(box) != 4:
            raise DataError(f'{line.place}: a box is {str(box)!r:.60}, expected [x, y, width, height] in pixels')
        x, y, width, height = (number(side, line.place, 'a number of a box') for side in box)
        yield LabeledObject(names[value] if names else value.strip(), round_box(x, y, x + width, y + height))
