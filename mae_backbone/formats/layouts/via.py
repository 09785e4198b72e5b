"""VGG Image Annotator (VIA) 1 and 2: JSON files with the regions of each image."""
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.files import large_limit, number, read_json
from mae_backbone.formats.layouts.image_index import ImageIndex
from mae_backbone.formats.layouts.labeled_set import (
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    box_of,
    round_box,
    split_in_path,
    with_rectangles,
)
from mae_backbone.formats.layouts.layout import Layout, label_files, refuse_faulty_files
from mae_backbone.formats.messages import first_few

_PATTERNS = ('*.json', '*/*.json', '*/*/*.json')
# An export starts with an image: its file name, size, regions and attributes. A project starts with its settings.
_KEYS = re.compile(r'"(_via_img_metadata|_via_settings)"')
_IMAGE_KEYS = ('"filename"', '"regions"', '"file_attributes"')
_CLASS_ATTRIBUTES = ('label', 'class', 'name', 'type', 'category', 'object', 'class_name', 'object_name')
_NO_NAME = 'object'      # class of regions without attributes
_ELLIPSE_POINTS = 64


class _Region(NamedTuple):
    """A region of an image: its shape, its attributes, and its place for messages."""

    shape: dict[str, Any]
    attributes: dict[str, str]
    place: str


def detect(root: Path) -> bool:
    """True if there are JSON files with the regions of images."""
    return bool(label_files(root, _PATTERNS, _is_via))


def read(root: Path) -> LabeledSet:
    """Reads rectangles, polygons, circles and ellipses. The last two become polygons of 64 points.

    The class of a region is its only attribute, or the first of the usual ones such as `label` and `class`. Regions
    without an attribute have the only class of the others, or the class `object`. Splits come from folders named train,
    val and test. An image without regions is a background image.

    Raises:
        DataError: a file is damaged, an image is missing, or the class of a region is ambiguous.
    """
    refuse_faulty_files(root, _PATTERNS)
    left_out, notes = Findings(), Findings()
    index = ImageIndex(root, notes)
    regions: dict[str, list[_Region]] = {}
    for path in label_files(root, _PATTERNS, _is_via):
        for name, found in _images_of(path):
            folder = path.parent.relative_to(root).as_posix().removeprefix('.')
            image = index.get(name, str(path), folders=(folder, '', 'images'), what='entry')
            if image in regions and [region[:2] for region in found] != [region[:2] for region in regions[image]]:
                raise DataError(f'{path}: {image} is in this file twice, or in another file too, with other regions: '
                                'keep one')
            if image in regions:  # a project next to its export
                notes.add('images that are in several files, with the same regions', image)
            else:
                regions[image] = found
    regions_of_all = [region for found in regions.values() for region in found]
    attribute = _class_attribute(regions_of_all, root, notes)
    only_class = _only_class(regions_of_all, attribute)
    sizes = index.sizes(regions)
    images = []
    for image in sorted(regions):
        objects = [labeled for region in regions[image]
                   if (labeled := _object(region, _name(region, attribute, only_class, notes), left_out))]
        images.append(LabeledImage(image, sizes[image].upright, objects, split_in_path(image)))
    for name in sorted({*index.names} - regions.keys()):
        left_out.add('images that no JSON file names', name)
    names = sorted({labeled.name for image in images for labeled in image.objects})
    return LabeledSet(root, 'VIA', names, with_rectangles(images, notes), left_out, notes)


LAYOUT = Layout('VIA', detect, read)


def _is_via(path: Path) -> bool:
    text = peek(path)
    return text.lstrip().startswith('{') and (
        _KEYS.search(text) is not None or all(key in text for key in _IMAGE_KEYS))


def _images_of(path: Path) -> Iterator[tuple[str, list[_Region]]]:
    """Yields the file name and the regions of each image of a file."""
    content = read_json(path, limit=large_limit())
    images = content.get('_via_img_metadata', content) if isinstance(content, dict) else None
    if not isinstance(images, dict):
        raise DataError(f'{path}: expected the images of a project or an export of VIA 1 or 2: export it again as JSON')
    for key, image in images.items():
        regions = image.get('regions') if isinstance(image, dict) else None
        found = list(regions.values()) if isinstance(regions, dict) else regions  # VIA 1 numbers them by keys
        if not isinstance(found, list) or not isinstance(image.get('filename'), str):
            raise DataError(f"{path}: the image {key!r:.80} has no 'filename' or no 'regions': export it again as JSON")
        yield image['filename'], [_region(region, f'{path}, {image["filename"]}, region {position}')
                                  for position, region in enumerate(found, start=1)]


def _region(region: Any, place: str) -> _Region:
    shape, attributes = (region.get(key) if isinstance(region, dict) else None
                         for key in ('shape_attributes', 'region_attributes'))
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise DataError(f'{place} has no shape_attributes or no region_attributes: export the file again as JSON')
    texts = {str(name): _text(value, f'{place}, attribute {name!s:.40}') for name, value in attributes.items()}
    return _Region(shape, {name: text for name, text in texts.items() if text}, place)


def _text(value: Any, place: str) -> str:
    """Value of an attribute; of checkboxes the name of the one that is checked."""
    if isinstance(value, dict):
        checked = [str(name) for name, is_checked in value.items() if is_checked]
        if len(checked) > 1:
            raise DataError(f'{place}: {first_few(checked)} are checked, expected one: an object has one class')
        return checked[0] if checked else ''
    return '' if value is None else str(value).strip()


def _class_attribute(regions: list[_Region], root: Path, notes: Findings) -> str:
    """Name of the attribute with the class; '' if no region has an attribute.

    Raises:
        DataError: there are several attributes with different values, and none has a usual name.
    """
    counts = Counter(name for region in regions for name in region.attributes)
    if not counts:
        return ''
    usual = {name.lower().replace(' ', '_'): name for name in counts}
    chosen = next((usual[name] for name in _CLASS_ATTRIBUTES if name in usual), None)
    frequent = counts.most_common(1)[0][0]
    if chosen is None and any(region.attributes and {*region.attributes.values()} != {region.attributes.get(frequent)}
                              for region in regions):
        raise DataError(f'{root}: the regions of VIA have the attributes {first_few(counts)}. Rename the one with the '
                        'class to label')
    chosen = chosen or frequent
    others = [name for name in counts if name != chosen]
    if others:
        notes.add(f'attributes of regions besides the class ({chosen}), which are not read', first_few(others))
    return chosen


def _only_class(regions: list[_Region], attribute: str) -> str:
    """Name of the class if there is only one; '' if there are several."""
    names = {region.attributes[attribute] for region in regions if attribute in region.attributes}
    return next(iter(names or {_NO_NAME})) if len(names) < 2 else ''


def _name(region: _Region, attribute: str, only_class: str, notes: Findings) -> str:
    """Class of a region. Raises DataError if it has none, and there are several."""
    name = region.attributes.get(attribute, '')
    if not name and not only_class:
        raise DataError(f'{region.place} has no {attribute}, which is the class of the other regions: set it, or '
                        'remove the region')
    if not name:
        notes.add(f'regions without an attribute for the class, which are read as {only_class}', region.place)
    return name or only_class


def _object(region: _Region, name: str, left_out: Findings) -> LabeledObject | None:
    """Converts a region; None if its shape has no area."""
    shape, place = region.shape, f'{region.place} ({name})'
    kind = str(shape.get('name'))
    if kind == 'rect':
        x, y, width, height = _numbers(shape, ('x', 'y', 'width', 'height'), place)
        return LabeledObject(name, round_box(x, y, x + width, y + height))
    if kind == 'polygon':
        columns, rows = (shape.get(key) for key in ('all_points_x', 'all_points_y'))
        if not isinstance(columns, list) or not isinstance(rows, list) or len(columns) != len(rows):
            raise DataError(f'{place}: expected two lists of the same length, all_points_x and all_points_y')
        values = [number(value, place, 'a coordinate') for point in zip(columns, rows, strict=True)
                  for value in point]
        if len(values) < 6:
            raise DataError(f'{place} is a polygon of {len(values) // 2} points, expected at least 3: correct or '
                            'remove it')
    elif kind in ('circle', 'ellipse'):
        x, y, *radii = _numbers(shape, ('cx', 'cy', 'r') if kind == 'circle' else ('cx', 'cy', 'rx', 'ry'), place)
        values = _ellipse(x, y, radii[0], radii[-1], number(shape.get('theta') or 0, place, 'theta'))
    else:
        left_out.add(f'regions of the shape {kind!s:.20}', place)
        return None
    return LabeledObject(name, box_of([values]), [values])


def _numbers(shape: dict[str, Any], keys: tuple[str, ...], place: str) -> list[float]:
    return [number(shape.get(key), place, key) for key in keys]


def _ellipse(x: float, y: float, radius_x: float, radius_y: float, angle: float) -> list[float]:
    """Polygon around a center; `angle` of the first radius in radians, clockwise in the image."""
    values = []
    for step in range(_ELLIPSE_POINTS):
        turn = 2 * math.pi * step / _ELLIPSE_POINTS
        along, across = radius_x * math.cos(turn), radius_y * math.sin(turn)
        values += [round(x + along * math.cos(angle) - across * math.sin(angle), 3),
                   round(y + along * math.sin(angle) + across * math.cos(angle), 3)]
    return values
