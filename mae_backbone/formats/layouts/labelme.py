"""labelme and AnyLabeling: a JSON file with shapes next to each image."""
import base64
import binascii
import io
import json
import math
import os
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek, refuse_faulty_text
from mae_backbone.formats.layouts.files import number, read_json
from mae_backbone.formats.layouts.image_index import ImageIndex, stated_size
from mae_backbone.formats.layouts.labeled_set import (
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    box_of,
    mask_object,
    polygons_of,
    split_in_path,
    with_rectangles,
)
from mae_backbone.formats.layouts.layout import Layout, first_files
from mae_backbone.formats.messages import first_few

_CIRCLE_POINTS = 64
# Files of a program of this kind start with these keys; the points may follow after megabytes of `imageData`.
_KEYS = re.compile(r'"(shapes|imagePath|imageData)"')


def detect(root: Path) -> bool:
    """True if there are JSON files with `shapes` and `imagePath`."""
    return any(_is_labelme(peek(path)) for path in first_files(root, '**/*.json'))


def read(root: Path) -> LabeledSet:
    """Reads rectangles, polygons, circles and masks; a circle becomes a polygon of 64 points.

    Polygons of the same label and `group_id` are parts of one object. Splits come from folders named train, val and
    test. A file without shapes is a background image.

    Raises:
        DataError: a file is damaged, an image is missing, a shape is invalid, or there are no objects.
    """
    left_out, notes = Findings(), Findings()
    index, contents = ImageIndex(root, notes), {}
    for path in sorted(root.glob('**/*.json')):
        if path.name.startswith('.'):
            continue
        if not _is_labelme(peek(path)):
            refuse_faulty_text(path)
            continue
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
            raise DataError(f"{path} has no list 'shapes': expected a file of labelme. Correct or remove it")
        contents[path.relative_to(root).as_posix()] = content
    image_of = {file: _image_of(index, file, content) for file, content in contents.items()}
    missing = [file for file, image in image_of.items() if not image]
    if missing:
        reasons = [file + index.reason(str(contents[file].get('imagePath'))) for file in missing]
        inside = any(contents[file].get('imageData') for file in missing)
        raise DataError(f'{root}: {len(missing):,} of {len(contents):,} JSON files have no image with their name '
                        f'({first_few(reasons)}): add the images, or remove these files'
                        + inside * '. The files contain the images as well (imageData): labelme_export_json of labelme '
                        'writes them')
    sizes = index.sizes(image_of.values())
    images = []
    for file, content in contents.items():
        image = image_of[file]
        stated = (content.get('imageWidth') or 0, content.get('imageHeight') or 0)
        size = stated_size(sizes[image], stated if all(isinstance(side, (int, float)) for side in stated) else None,
                           str(root / file), image)
        images.append(LabeledImage(image, size, _objects(root / file, content['shapes'], size, left_out, notes),
                                   split_in_path(image)))
    if len({image.file_name for image in images}) < len(images):
        repeated = sorted(name for name in set(image_of.values()) if list(image_of.values()).count(name) > 1)
        raise DataError(f'{root}: {len(repeated)} images have several JSON files ({first_few(repeated)}): remove all '
                        'but one')
    for name in sorted({*index.names} - {image.file_name for image in images}):
        left_out.add('images without a JSON file, which are not labeled', name)
    names = sorted({labeled.name for image in images for labeled in image.objects})
    if not names:
        more = ''.join(f'. Left out: {line}' for line in left_out.lines())
        raise DataError(f'{root}: none of the {len(contents):,} JSON files of labelme has an object in its shapes '
                        f'({first_few(contents)}): label objects, or remove these files if the images are for '
                        f'pretraining{more}')
    return LabeledSet(root, 'labelme', names, with_rectangles(images, notes), left_out, notes)


LAYOUT = Layout('labelme', detect, read)


def _is_labelme(text: str) -> bool:
    return text.lstrip().startswith('{') and len(set(_KEYS.findall(text))) >= 2


def _image_of(index: ImageIndex, file: str, content: dict[str, Any]) -> str:
    """Image of a JSON file: `imagePath`, or else the image of the same name next to it."""
    folder, stem = os.path.dirname(file), PurePosixPath(file).stem
    stated = content.get('imagePath')
    image = index.find(stated, folders=(folder,)) if isinstance(stated, str) and stated else ''
    folders = [folder, os.path.join(os.path.dirname(folder), 'images'), os.path.dirname(folder)]
    return image or index.find_stem(stem, folders=folders, place=file)


def _objects(path: Path, shapes: list[Any], size: tuple[int, int], left_out: Findings, notes: Findings
             ) -> list[LabeledObject]:
    """Objects of an image; polygons of a group are joined."""
    objects: list[LabeledObject] = []
    groups: dict[tuple[str, str], list[LabeledObject]] = defaultdict(list)
    for position, shape in enumerate(shapes, start=1):
        place = f'{path}, shape {position}'
        if not isinstance(shape, dict) or not isinstance(shape.get('label'), str) or not shape['label'].strip():
            raise DataError(f'{place} has no label: name its class, or remove it')
        labeled = _object(shape, place, size, left_out)
        if labeled is None:
            continue
        if shape.get('difficult'):
            notes.add('shapes marked difficult, which are ignored in training and evaluation', place)
            labeled = labeled._replace(is_crowd=True)
        group = shape.get('group_id')
        if group is None or not isinstance(labeled.segmentation, list):
            objects.append(labeled)
        else:
            groups[labeled.name, json.dumps(group)].append(labeled)
    for parts in groups.values():
        polygons = [polygon for part in parts for polygon in polygons_of(part)]
        if len(parts) > 1:
            notes.add('objects of several polygons with the same group_id', path.name)
        objects.append(parts[0]._replace(segmentation=polygons, box=box_of(polygons)))
    return objects


def _object(shape: dict[str, Any], place: str, size: tuple[int, int], left_out: Findings) -> LabeledObject | None:
    """Converts a shape; None if it is of a kind that is left out."""
    kind, label = str(shape.get('shape_type') or 'polygon'), shape['label'].strip()
    if kind not in ('polygon', 'rectangle', 'rotation', 'circle', 'mask'):
        left_out.add(f'shapes of the type {kind!s:.20}', place)
        return None
    points = shape.get('points')
    if not isinstance(points, list) or not all(isinstance(point, (list, tuple)) and len(point) == 2
                                               for point in points):
        raise DataError(f'{place} ({label}): points is {str(points)!r:.40}, expected a list of x, y')
    values = [number(value, place, f'a coordinate of {label}') for point in points for value in point]
    if kind == 'mask':
        return _mask(shape.get('mask'), label, values, place, size, left_out)
    if kind == 'circle' and len(values) == 4:
        x, y, radius = values[0], values[1], math.dist(values[:2], values[2:])
        values = [round(center + radius * function(2 * math.pi * step / _CIRCLE_POINTS), 3)
                  for step in range(_CIRCLE_POINTS) for center, function in ((x, math.cos), (y, math.sin))]
    elif kind == 'rectangle' and len(values) in (4, 8):
        return LabeledObject(label, box_of([values]))
    if len(values) < 6:
        raise DataError(f'{place} ({label}) is a {kind} of {len(points)} points, expected at least 3: correct or '
                        'remove it')
    return LabeledObject(label, box_of([values]), [values])


def _mask(text: Any, label: str, corners: list[float], place: str, size: tuple[int, int], left_out: Findings
          ) -> LabeledObject | None:
    """Reads a mask: a PNG in base64 for the box between two corners. The pixels of both corners belong to the box."""
    if len(corners) != 4:
        raise DataError(f'{place} ({label}) is a mask of {len(corners) // 2} points, expected 2 corners: correct or '
                        'remove it')
    left, top, right, bottom = map(int, corners)
    width, height = right - left + 1, bottom - top + 1
    if min(left, top, width - 1, height - 1) < 0 or right >= size[0] or bottom >= size[1]:
        raise DataError(f'{place} ({label}): a mask from {left}, {top} to {right}, {bottom} is not inside of the image '
                        f'of {size[0]}x{size[1]}: correct or remove it')
    pixels = _png(text, f'{place} ({label})', (width, height))
    if not pixels.any():
        left_out.add('masks without a pixel', place)
        return None
    return mask_object(label, pixels, (left, top), size)


def _png(text: Any, place: str, size: tuple[int, int]) -> np.ndarray:
    """Decodes a PNG (H, W) in base64. Its size is compared before its pixels are decoded."""
    fault = f'{place}: its mask is no PNG of {size[0]}x{size[1]} pixels in base64'
    if not isinstance(text, str):
        raise DataError(f'{fault}, but {text!r:.40}: save the file in labelme again')
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=['PNG']) as image:
            if image.size != size:
                raise DataError(f'{fault}: it has {image.size[0]}x{image.size[1]}. Save the file in labelme again')
            pixels = np.asarray(image)
    except DataError:
        raise
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f'{fault} ({type(error).__name__}: {error!s:.80}): save the file in labelme again') from error
    return pixels if pixels.ndim == 2 else pixels.max(axis=2)
