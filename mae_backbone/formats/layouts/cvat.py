"""CVAT for images 1.1: an XML file with all images and shapes."""
import math
import os
import re
from collections import defaultdict
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.files import large_limit, number, read_xml
from mae_backbone.formats.layouts.image_index import ImageIndex, stated_size
from mae_backbone.formats.layouts.labeled_set import (
    SPLIT_NAMES,
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    box_of,
    mask_object,
    polygons_of,
    round_box,
    split_in_path,
    with_rectangles,
)
from mae_backbone.formats.layouts.layout import Layout, label_files
from mae_backbone.formats.messages import first_few


def detect(root: Path) -> bool:
    """True if there is an XML file with elements `annotations` and `image`."""
    return bool(_files(root))


def read(root: Path) -> LabeledSet:
    """Reads boxes (also rotated ones), polygons and masks; other shapes are counted.

    Classes have the order of the task. Polygons and masks of the same label and `group_id` are parts of one object.
    Splits are the subsets of the task. An image without shapes is a background image.

    Raises:
        DataError: a file is damaged, an image is missing, or a shape is invalid.
    """
    left_out, notes = Findings(), Findings()
    index, elements, names = ImageIndex(root, notes), [], []
    for path in _files(root):
        document = read_xml(path, limit=large_limit())
        names += [name.strip() for label in document.iter('label') if (name := label.findtext('name'))]
        elements += [(path, element) for element in document.findall('image')]
    found = [_image_of(index, element) for _, element in elements]
    missing = [element.get('name', '') for (_, element), image in zip(elements, found, strict=True) if not image]
    if missing:
        raise DataError(f'{root}: {len(missing):,} of {len(elements):,} images of the XML file '
                        f'{index.missing(missing)}: export the task from CVAT with "Save images", or copy the images '
                        'into the folder "images"')
    if len(set(found)) < len(found):
        repeated = sorted(name for name in set(found) if found.count(name) > 1)
        raise DataError(f'{root}: {len(repeated)} images occur more than once ({first_few(repeated)}): keep one XML '
                        'file with each')
    sizes = index.sizes(found)
    images = []
    for (path, element), image in zip(elements, found, strict=True):
        place = f'{path}, image {element.get("name")}'
        stated = tuple(number(element.get(side), place, side) for side in ('width', 'height'))
        size = stated_size(sizes[image], (stated[0], stated[1]), place, image)
        subset = (element.get('subset') or '').lower()
        images.append(LabeledImage(image, size, _objects(element, place, size, left_out, notes),
                                   SPLIT_NAMES.get(subset) or split_in_path(image)))
    for name in sorted({*index.names} - set(found)):
        left_out.add('images that the XML file does not name', name)
    used = {labeled.name for image in images for labeled in image.objects}
    # Labels of a task may be of tags or of shapes that are left out.
    names = [name for name in dict.fromkeys(names) if name in used] + sorted(used - set(names))
    return LabeledSet(root, 'CVAT for images', names, with_rectangles(images, notes), left_out, notes)


LAYOUT = Layout('CVAT for images', detect, read)


def _files(root: Path) -> list[Path]:
    return label_files(root, ('*.xml',), _has_labels)


def _has_labels(path: Path) -> bool:
    return bool(re.search(r'<annotations[\s>]', text := peek(path)) and re.search(r'<image\s', text))


def _image_of(index: ImageIndex, element: Element) -> str:
    subset = element.get('subset') or ''
    name = element.get('name') or ''
    return index.find(name, folders=('', 'images', os.path.join('images', subset), subset)) if name else ''


def _objects(element: Element, image: str, size: tuple[int, int], left_out: Findings, notes: Findings
             ) -> list[LabeledObject]:
    objects: list[LabeledObject] = []
    groups: dict[tuple[str, str], list[LabeledObject]] = defaultdict(list)
    for position, shape in enumerate(element, start=1):
        place = f'{image}, shape {position}'
        if shape.tag not in ('box', 'polygon', 'mask'):
            left_out.add(f'shapes of the type {shape.tag!s:.20}', place)
            continue
        label = (shape.get('label') or '').strip()
        if not label:
            raise DataError(f'{place} has no label: name its class, or remove it')
        if shape.get('occluded') == '1':
            left_out.add('marks of occlusion', place)
        labeled = _object(shape, label, place, size)
        group = shape.get('group_id') or '0'
        if group == '0' or not isinstance(labeled.segmentation, list):
            objects.append(labeled)
        else:
            groups[label, group].append(labeled)
    for parts in groups.values():
        polygons = [polygon for part in parts for polygon in polygons_of(part)]
        if len(parts) > 1:
            notes.add('objects of several polygons with the same group_id', image)
        objects.append(parts[0]._replace(segmentation=polygons, box=box_of(polygons)))
    return objects


def _object(shape: Element, label: str, place: str, size: tuple[int, int]) -> LabeledObject:
    if shape.tag == 'mask':
        return _mask(shape, label, place, size)
    if shape.tag == 'polygon':
        values = [number(value, place, f'a coordinate of {label}')
                  for value in re.split(r'[;,]', (shape.get('points') or '').strip(';'))]
        if len(values) < 6 or len(values) % 2:
            raise DataError(f'{place} ({label}) is a polygon of {len(values)} coordinates, expected pairs x, y of at '
                            'least 3 points: correct or remove it')
        return LabeledObject(label, box_of([values]), [values])
    left, top, right, bottom = (number(shape.get(key), place, f'{key} of {label}')
                                for key in ('xtl', 'ytl', 'xbr', 'ybr'))
    if left > right or top > bottom:
        raise DataError(f'{place} ({label}): xtl, ytl, xbr, ybr are {left}, {top}, {right}, {bottom}: the minimum is '
                        'larger than the maximum. Correct or remove the box')
    angle = math.radians(number(shape.get('rotation') or 0, place, 'the rotation'))
    if not angle:
        return LabeledObject(label, round_box(left, top, right, bottom))
    x, y, cos, sin = (left + right) / 2, (top + bottom) / 2, math.cos(angle), math.sin(angle)
    corners = [(left - x, top - y), (right - x, top - y), (right - x, bottom - y), (left - x, bottom - y)]
    polygon = [round(value, 3) for dx, dy in corners for value in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)]
    return LabeledObject(label, box_of([polygon]), [polygon])


def _mask(shape: Element, label: str, place: str, size: tuple[int, int]) -> LabeledObject:
    """Converts run lengths over the rows of a box to COCO's run lengths over the columns of the image."""
    left, top, width, height = (int(number(shape.get(key), place, f'{key} of {label}'))
                                for key in ('left', 'top', 'width', 'height'))
    runs = [int(number(value, place, f'a run of {label}')) for value in (shape.get('rle') or '').split(',')]
    inside = min(left, top, width - 1, height - 1) >= 0 and left + width <= size[0] and top + height <= size[1]
    if not inside or min(runs) < 0 or sum(runs) != width * height:
        raise DataError(f'{place} ({label}): a mask of {width}x{height} pixels at {left}, {top} with runs of '
                        f'{sum(runs):,} pixels does not fit the image of {size[0]}x{size[1]}: export the task again')
    return mask_object(label, np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width), (left, top), size)
