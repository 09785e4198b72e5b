"""Boxes in Create ML's JSON, which Roboflow also exports: a list of images with their objects."""
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.files import large_limit, number, read_json
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

_PATTERNS = ('*.json', '*/*.json')
_IMAGE_KEYS = ('image', 'imagefilename')
_SIDES = ('x', 'y', 'width', 'height')
_EXPECTED = ('expected {"image": ..., "annotations": [{"label": ..., "coordinates": {"x": ..., "y": ..., "width": ..., '
             '"height": ...}}]}')


def detect(root: Path) -> bool:
    """True if there is a JSON file with a list of images that have `annotations` with `coordinates`."""
    return bool(_files(root))


def read(root: Path) -> LabeledSet:
    """Reads boxes: x and y of the center, width and height, in pixels.

    Splits come from folders named train, val and test. An image without objects is a background image.

    Raises:
        DataError: an entry is damaged, or an image is missing or repeated.
    """
    refuse_faulty_files(root, _PATTERNS)
    left_out, notes = Findings(), Findings()
    index = ImageIndex(root, notes)
    objects_of: dict[str, list[LabeledObject]] = {}
    for path in _files(root):
        folder = path.parent.relative_to(root).as_posix().removeprefix('.')
        for place, name, objects in _entries(path):
            image = index.get(name, place, folders=(folder, '', 'images'), what='entry')
            if image in objects_of:
                raise DataError(f'{place}: {image} is listed before: keep one of the two entries')
            objects_of[image] = [_object(labeled, place) for labeled in objects]
    sizes = index.sizes(objects_of)
    images = [LabeledImage(image, sizes[image].upright, objects_of[image], split_in_path(image))
              for image in sorted(objects_of)]
    for name in sorted({*index.names} - objects_of.keys()):
        left_out.add('images that no JSON file names', name)
    names = sorted({labeled.name for objects in objects_of.values() for labeled in objects})
    return LabeledSet(root, 'Create ML', names, images, left_out, notes)


LAYOUT = Layout('Create ML', detect, read)


def _files(root: Path) -> list[Path]:
    return label_files(root, _PATTERNS, _has_boxes)


def _has_boxes(path: Path) -> bool:
    """True if a file starts with a list of images with annotations, as far as its first 64 KB show."""
    text = peek(path).lstrip()
    return text.startswith('[') and '"annotations"' in text and '"coordinates"' in text and any(
        f'"{key}"' in text for key in _IMAGE_KEYS)


def _entries(path: Path) -> Iterator[tuple[str, str, list[Any]]]:
    """Yields the place, the name and the objects of each image."""
    content = read_json(path, limit=large_limit())
    for position, entry in enumerate(content if isinstance(content, list) else [content], start=1):
        place = f'{path}, image {position}'
        values = entry if isinstance(entry, dict) else {}
        name = next((values[key] for key in _IMAGE_KEYS if key in values), None)
        if not isinstance(name, str) or not isinstance(values.get('annotations'), list):
            raise DataError(f'{place} is {str(entry)!r:.60}, {_EXPECTED}')
        yield place, name, values['annotations']


def _object(labeled: Any, place: str) -> LabeledObject:
    values = labeled if isinstance(labeled, dict) else {}
    coordinates, label = values.get('coordinates'), values.get('label')
    if not isinstance(coordinates, dict) or not coordinates.keys() >= {*_SIDES} or not isinstance(label, str) or (
            not label.strip()):
        raise DataError(f'{place}: an object is {str(labeled)!r:.60}, {_EXPECTED}')
    x, y, width, height = (number(coordinates[side], place, side) for side in _SIDES)
    return LabeledObject(label.strip(), round_box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
