"""YOLO: data.yaml with the class names and folders, and a text file for each image with a line for each object."""
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from mae_backbone.data.files import ImageWalk
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.image_headers import StoredSize
from mae_backbone.formats.layouts.files import number, read_text, read_yaml
from mae_backbone.formats.layouts.folder_names import outside_projects
from mae_backbone.formats.layouts.image_index import ImageIndex, inside
from mae_backbone.formats.layouts.label_texts import LabelTexts, has_label
from mae_backbone.formats.layouts.labeled_set import (
    SPLIT_NAMES,
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    box_of,
    round_box,
    split_in_path,
    with_rectangles,
)
from mae_backbone.formats.layouts.layout import Layout, first_files
from mae_backbone.formats.messages import first_few

# Places of label files in a folder without data.yaml.
_LABEL_FILES = ('[lL]abels/*.txt', '[lL]abels/*/*.txt', '*/[lL]abels/*.txt', '*.txt', '*/*.txt')
_NAME_FILES = ('classes.txt', 'labels/classes.txt', 'obj.names', 'labels/*/classes.txt', '*/labels/classes.txt',
               '_darknet.labels', '*/_darknet.labels')
_FRACTION = 'a fraction of the width or height of the image, with a decimal point, such as 0.5'
_MIN_CORNERS = 4  # smallest number of boxes from which the order of their numbers is judged
_SLACK = 0.01  # rounded coordinates may be outside of 0..1 by this, as in ultralytics


class _Data(NamedTuple):
    """Content of data.yaml."""

    path: Path | None
    names: list[str]
    folders: dict[str, list[str]]  # folders or lists of images of each split, relative to the root
    num_keypoints: int             # numbers of the keypoints of each object; 0 without


def detect(root: Path) -> bool:
    """True if there is a YAML file with `names` and `train`, or text files with a class and numbers in 0..1."""
    if any(re.search(r'^names\s*:', peek(path), re.M) and re.search(r'^(train|val|test|nc|path)\s*:', peek(path), re.M)
           for path in _yaml_files(root)):
        return True
    return any(has_label(path) for pattern in _LABEL_FILES for path in first_files(root, pattern, with_content=True))


def read(root: Path) -> LabeledSet:
    """Reads boxes (class, center, size) and polygons (class, x, y, x, y, ...), all relative to the image.

    An image without a text file, or with an empty one, is a background image. Without data.yaml, images of folders in
    which no image has a text file are left out.

    Raises:
        DataError: a line is not a valid object, a class has no name, a folder is missing or outside of the root, or the
            objects are oriented boxes or corners of boxes.
    """
    left_out, notes = Findings(), Findings()
    data, index = _read_data(root, notes), ImageIndex(root, notes)
    split_of = _splits(root, data, index, left_out, notes)
    texts = LabelTexts(root, index.names, notes)
    text_of = {image: texts.of(image) for image in split_of}
    if not data.folders:
        split_of = _in_labeled_folders(split_of, text_of, left_out)
    sizes = index.sizes(split_of)
    _check_unique(root, {image: text_of[image] for image in split_of})
    parsed = {image: _objects(root, image, text_of[image], sizes[image], data, left_out, notes) for image in split_of}
    _refuse_oriented(root, parsed, sizes)
    _refuse_corners(root, parsed, sizes)
    for name in texts.unused(text_of[image] if image in text_of else texts.of(image) for image in index.names):
        left_out.add('label files without an image', name)
    names = data.names or [f'class {number}' for number in range(
        1 + max((int(labeled.name) for objects in parsed.values() for labeled in objects), default=-1))]
    if not data.names:
        notes.add('classes without names (no data.yaml or classes.txt), which are numbered', str(root))
    images = [LabeledImage(image, sizes[image].upright, [
        labeled._replace(name=names[int(labeled.name)]) for labeled in parsed[image]],
        split or split_in_path(text_of[image]))
        for image, split in split_of.items()]
    return LabeledSet(root, 'YOLO', names, with_rectangles(images, notes), left_out, notes)


LAYOUT = Layout('YOLO', detect, read)


# ---- data.yaml

def _yaml_files(root: Path) -> list[Path]:
    return sorted([*root.glob('*.yaml'), *root.glob('*.yml')], key=lambda path: (path.stem != 'data', path.name))


def _read_data(root: Path, notes: Findings) -> _Data:
    candidates = [path for path in _yaml_files(root) if re.search(r'^names\s*:', peek(path), re.M)]
    if not candidates:
        lists = [[path for path in sorted(root.glob(pattern)) if path.is_file()] for pattern in _NAME_FILES]
        return _Data(None, _listed_names(next(filter(None, lists), [])), {}, 0)
    path = candidates[0]
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise DataError(f'{path} contains a {type(content).__name__}, expected keys such as names, train and val')
    names = _names(path, content)
    base = content.get('path')
    folders = {SPLIT_NAMES[key]: [_folder(root, path, str(base or ''), str(entry), notes)
                                  for entry in (value if isinstance(value, list) else [value])]
               for key, value in content.items() if key in SPLIT_NAMES and value}
    shape = content.get('kpt_shape') or []
    if content.get('task') == 'obb':
        raise DataError(f'{path}: {_ORIENTED}')
    keypoints = int(np.prod(shape)) if isinstance(shape, list) and all(isinstance(n, int) for n in shape) else 0
    return _Data(path, names, folders, keypoints if shape else 0)


def _listed_names(paths: list[Path]) -> list[str]:
    """Names of the classes in text files with a name per line, which must be equal."""
    names = [[line.strip() for line in read_text(path).splitlines() if line.strip()] for path in paths]
    for path, other in zip(paths, names, strict=True):
        if other != names[0]:
            raise DataError(f'{paths[0]} and {path} have different names of classes ({first_few(names[0])}; '
                            f'{first_few(other)}): correct or remove one of them')
    return names[0] if names else []


def _names(path: Path, content: dict[str, Any]) -> list[str]:
    names = content.get('names')
    if isinstance(names, dict):
        texts, numbers = names, [int(key) if isinstance(key, str) and key.isdecimal() else key for key in names]
        names = dict(zip(numbers, names.values(), strict=True))
        if set(names) != set(range(len(texts))):
            raise DataError(f'{path}: the keys of names are {first_few(texts)}, expected 0 to {len(texts) - 1} without '
                            'gaps')
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f'{path}: names is {str(names)!r:.60}, expected a list of class names')
    names = [str(name).strip() for name in names]
    if content.get('nc') not in (None, len(names)):
        raise DataError(f'{path}: nc is {content["nc"]!r:.20}, but names has {len(names)} classes: correct one of both')
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f'{path} names {first_few(repeated)} more than once: give every class a unique name')
    return names


def _folder(root: Path, file: Path, base: str, entry: str, notes: Findings) -> str:
    """Resolves a folder or list of data.yaml. Returns its path relative to the root.

    `path` in data.yaml is relative to where training is started, which is not known here; Roboflow writes '../train'
    for folders next to the file. Therefore the longest end of the path that exists in the root is used.
    """
    stated = entry if os.path.isabs(entry) or not base else os.path.join(base, entry)
    for candidate in (os.path.join(os.path.dirname(file), stated), os.path.join(root, entry)):
        absolute = os.path.normpath(candidate)
        if os.path.exists(absolute) and not _leaves(root, absolute):
            return os.path.relpath(absolute, root)
    parts = PurePosixPath(stated.replace('\\', '/')).parts
    parts = tuple(part for part in parts if part not in ('..', '.', '/'))
    for start in range(len(parts)):
        path = os.path.join(root, *parts[start:])
        if os.path.exists(path):
            notes.add('folders of data.yaml that are taken from the data root', f'{entry} -> {"/".join(parts[start:])}')
            return os.path.relpath(path, root)
    absolute = inside(root, stated, str(file))
    if not os.path.exists(absolute):
        raise DataError(f'{file} names the folder {entry}, which does not exist in {root}: correct it, relative to the '
                        'folder of the file')
    return os.path.relpath(absolute, root)


def _leaves(root: Path, absolute: str) -> bool:
    top = os.path.abspath(root)
    absolute = os.path.abspath(absolute)
    return absolute != top and not absolute.startswith(os.path.join(top, ''))


def _splits(root: Path, data: _Data, index: ImageIndex, left_out: Findings, notes: Findings
            ) -> dict[str, str]:
    """Split of each image, in the order of the names."""
    if not data.folders:
        return {name: split_in_path(name) for name in index.names}
    images = {split: [image for entry in entries for image in _listed(root, entry, index)]
              for split, entries in data.folders.items()}
    if set(images.get('val', ())) <= set(images.get('train', ())) and 'val' in images:
        notes.add('val in data.yaml names images of train, so that it counts as missing', str(data.path))
        del images['val']
    if set(images.get('test', ())) == set(images.get('val', ())):  # one set for both
        images.pop('test', None)
    split_of: dict[str, str] = {}
    for split, listed in images.items():
        for image in listed:
            if split_of.setdefault(image, split) != split:
                raise DataError(f'{data.path}: {image} belongs to {split_of[image]} and {split}: use different images')
    for name in sorted({*index.names} - split_of.keys()):
        left_out.add('images in no folder of data.yaml', name)
    return dict(sorted(split_of.items()))


def _listed(root: Path, entry: str, index: ImageIndex) -> Iterator[str]:
    path = root / entry
    if path.is_file():
        if path.suffix != '.txt':
            raise DataError(f'data.yaml names the file {entry}, expected a folder of images, or a .txt file with the '
                            'path of an image in each line')
        for position, line in enumerate(read_text(path).splitlines(), start=1):
            name = line.strip().removeprefix('./')
            if name:
                image = index.find(name, folders=('', os.path.dirname(entry)))
                if not image:
                    raise DataError(f'{path}, line {position}: {name} is no image in {root}{index.reason(name)}: add '
                                    'it, or remove the line')
                yield image
        return
    folder = '' if entry == '.' else entry + '/'
    if folder.startswith('..'):
        yield from (f'{folder}{name}' for name in ImageWalk(path))
    else:
        yield from (name for name in index.names if name.startswith(folder))


# ---- text files

def _in_labeled_folders(split_of: dict[str, str], text_of: dict[str, str], left_out: Findings) -> dict[str, str]:
    """Leaves out the images of folders in which no image has labels, and of results next to other labeled folders."""
    labeled = [image for image, text in text_of.items() if text]
    all_folders, folders = ({os.path.dirname(image) for image in images}
                            for images in (labeled, outside_projects(labeled) or labeled))
    kept = {image: split for image, split in split_of.items() if os.path.dirname(image) in folders}
    for image in sorted({*split_of} - {*kept}):
        left_out.add('images in folders of results' if os.path.dirname(image) in all_folders else
                     'images in folders without labels; if they are background, list the folder in a data.yaml', image)
    return kept


def _check_unique(root: Path, text_of: dict[str, str]) -> None:
    """Raises DataError if several images have the same label file."""
    image_of: dict[str, str] = {}
    for image, text in text_of.items():
        if text and image_of.setdefault(text, image) != image:
            raise DataError(f'{root / text} belongs to several images ({image_of[text]} and {image}): rename one of '
                            'them')


def _objects(root: Path, image: str, text: str, stored: StoredSize, data: _Data, left_out: Findings, notes: Findings
             ) -> list[LabeledObject]:
    """Objects of an image in its label file, a path relative to the root; '' for an image without labels."""
    if not text:
        notes.add('images without a label file, which are background', image)
        return []
    path = root / text
    objects, seen = [], set()
    for position, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        if line in seen:
            left_out.add('repeated lines', f'{path}, line {position}')
            continue
        seen.add(line)
        objects.append(_object(line.split(), f'{path}, line {position}', stored.upright, data, left_out))
    return objects


def _object(words: list[str], place: str, size: tuple[int, int], data: _Data, left_out: Findings) -> LabeledObject:
    label = words[0].removesuffix('.0')
    if not label.isdecimal() or (data.names and int(label) >= len(data.names)):
        expected = f'0 to {len(data.names) - 1} ({first_few(data.names)})' if data.names else 'a number from 0 on'
        raise DataError(f'{place}: the class is {words[0]!r:.20}, expected {expected}: correct it, or add the class to '
                        f'names in {data.path or "data.yaml"}')
    values = np.array([number(word, place, 'a coordinate', _FRACTION) for word in words[1:]])
    if data.num_keypoints and len(values) == 4 + data.num_keypoints:
        left_out.add('keypoints of objects: their boxes are read', place)
        values = values[:4]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise DataError(f'{place} has {len(values)} numbers after the class, expected 4 for a box (center x, center y, '
                        'width, height), or pairs x, y of at least 3 points for a polygon')
    if 1 + _SLACK < values.max() < 2 or -1 < values.min() < -_SLACK:
        raise DataError(f'{place}: {first_few(words[1:])} are not in 0..1: the object reaches out of the image. '
                        'Correct or remove the line')
    if values.max() > 1 + _SLACK or values.min() < -_SLACK:
        raise DataError(f'{place}: {first_few(words[1:])} are not in 0..1: YOLO\'s coordinates are relative to the '
                        'width and height of the image, not in pixels. Divide them')
    scale = np.resize(np.array(size, float), len(values))
    values = values * scale
    if len(values) == 4:
        x, y, width, height = values
        return LabeledObject(label, round_box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    polygon = np.clip(values, 0, scale).round(3).tolist()
    return LabeledObject(label, box_of([polygon]), [polygon])


# ---- boxes as corners

def _refuse_corners(root: Path, parsed: dict[str, list[LabeledObject]], sizes: dict[str, StoredSize]) -> None:
    """Refuses sets whose boxes seem to be written as two corners instead of center and size.

    Of corners, the last two numbers are always larger than the first two. Read as center and size, most of such boxes
    reach beyond their image.
    """
    boxes = np.array([(*labeled.box, *sizes[image].upright) for image, objects in parsed.items() for labeled in objects
                      if labeled.segmentation is None], float).reshape(-1, 6)
    x, y, width, height, image_width, image_height = boxes.T
    are_larger = (width > x + width / 2) & (height > y + height / 2)
    reach_beyond = (np.minimum(x, y) < -1) | (x + width > image_width + 1) | (y + height > image_height + 1)
    if len(boxes) >= _MIN_CORNERS and are_larger.all() and reach_beyond.mean() > 0.5:
        raise DataError(f'{root}: {reach_beyond.sum():,} of {len(boxes):,} boxes reach beyond their image. They seem '
                        'to be written as two corners (x1 y1 x2 y2), expected center x, center y, width, height, as '
                        'fractions of the image')


# ---- oriented boxes

_ORIENTED = ('the objects are oriented boxes (OBB), which no detector of this package predicts: export boxes or '
             'polygons. To train masks on them, remove "task: obb" and add a fifth point to some')


def _refuse_oriented(root: Path, parsed: dict[str, list[LabeledObject]], sizes: dict[str, StoredSize]) -> None:
    """Refuses sets whose objects all are rotated rectangles of four points, the format of oriented boxes.

    A set of polygons has objects with other numbers of points, or that are no rectangles.
    """
    polygons = [np.array(labeled.segmentation[0], float).reshape(-1, 2) for objects in parsed.values()
                for labeled in objects if isinstance(labeled.segmentation, list)]
    boxes = any(labeled.segmentation is None for objects in parsed.values() for labeled in objects)
    if polygons and not boxes and all(len(polygon) == 4 and _is_rectangle(polygon) for polygon in polygons) and any(
            np.abs(polygon[0] - polygon[1]).min() > 1 for polygon in polygons):
        raise DataError(f'{root}: {_ORIENTED}')


def _is_rectangle(points: np.ndarray) -> bool:
    """True if four points (4, 2) are the corners of a rectangle, up to 2 pixels or 2 %."""
    first, second = np.linalg.norm(points[0] - points[2]), np.linalg.norm(points[1] - points[3])
    center = np.linalg.norm(points[0] + points[2] - points[1] - points[3]) / 2
    return bool(max(abs(first - second), center) <= max(2.0, 0.02 * first))
