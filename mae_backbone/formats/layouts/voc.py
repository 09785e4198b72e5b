"""Pascal VOC: an XML file with boxes for each image, and lists of the splits in ImageSets/Main."""
import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek, refuse_faulty_text
from mae_backbone.formats.layouts.files import number, read_text, read_xml
from mae_backbone.formats.layouts.image_index import ImageIndex, stated_size
from mae_backbone.formats.layouts.labeled_set import (
    Box,
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
from mae_backbone.formats.names import nfc

_LISTS = {'train': 'train', 'val': 'val', 'test': 'test', 'trainval': 'train'}
_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


class _Entry(NamedTuple):
    """Content of an XML file."""

    file: str
    image: str
    stated: tuple[float, float] | None
    objects: list['_Object']


class _Object(NamedTuple):
    """Content of an element `object`."""

    name: str                     # name of its class
    corners: Box | None           # xmin, ymin, xmax, ymax
    polygons: list[list[float]]   # x, y, x, y, ...
    is_difficult: bool


def detect(root: Path) -> bool:
    """True if there are XML files with an element `annotation`."""
    return any(re.search(r'<annotation[\s>]', peek(path)) for path in first_files(root, '**/*.xml'))


def read(root: Path) -> LabeledSet:
    """Reads all XML files with their images.

    Splits come from the lists in ImageSets/Main (or ImageSets, or Main), otherwise from folders named train, val and
    test. Pixels count from 1 and both corners belong to the box (VOC devkit), unless a box of the set starts at 0: then
    they are coordinates from 0. Objects with `difficult` become regions to ignore. Polygons have the formats of
    Roboflow (x1, y1, x2, ...) and LabelMe (pt). Their points are centers of pixels.

    Raises:
        DataError: a file is damaged, an image is missing, or a box is invalid.
    """
    left_out, notes = Findings(), Findings()
    index, entries, missing = ImageIndex(root, notes), list[_Entry](), list[str]()
    for path in sorted(root.glob('**/*.xml')):
        file = path.relative_to(root).as_posix()
        if path.name.startswith('.'):
            continue
        if not re.search(r'<annotation[\s>]', peek(path)):
            refuse_faulty_text(path)
            continue
        element = read_xml(path)
        image = _image_of(index, file, element)
        if not image:
            missing.append(file + index.reason((element.findtext('filename') or '').strip()))
        entries.append(_Entry(file, image, _stated(element), _objects(path, element, left_out, notes)))
    if missing:
        raise DataError(f'{root}: {len(missing):,} of {len(entries):,} XML files have no image with their name '
                        f'({first_few(missing)}): add the images, or remove these files')
    splits = _listed_splits(root, index, {entry.file: entry.image for entry in entries}, left_out)
    sizes = index.sizes(entry.image for entry in entries)
    from_zero = any(min(item.corners[:2] if item.corners else min(item.polygons, key=min)) < 1
                    for entry in entries for item in entry.objects)
    if from_zero:
        notes.add('boxes start at 0, so that pixels are counted from 0, not from 1 as in Pascal VOC', 'all files')
    images = []
    for file, image, stated, listed in entries:
        size = stated_size(sizes[image], stated, str(root / file), image)
        split = splits.get(image, 'unlisted' if splits else split_in_path(image) or split_in_path(file))
        if split == 'unlisted':
            left_out.add('images in no list of ImageSets/Main', image)
            continue
        images.append(LabeledImage(image, size, [_labeled(item, from_zero) for item in listed], split))
    _check_unique(images)
    for name in sorted({*index.names} - {entry.image for entry in entries}):
        if 'Segmentation' not in name:
            left_out.add('images without an XML file', name)
    names = sorted({labeled.name for image in images for labeled in image.objects})
    return LabeledSet(root, 'Pascal VOC', names, with_rectangles(images, notes), left_out, notes)


LAYOUT = Layout('Pascal VOC', detect, read)


def _image_of(index: ImageIndex, file: str, element: Element) -> str:
    """Returns the image of an XML file: the one with the same stem, or else the one in `filename`."""
    folder, stem = os.path.dirname(file), PurePosixPath(file).stem
    parent = os.path.dirname(folder)
    folders = [folder, *(os.path.join(parent, name) for name in ('JPEGImages', 'images', 'Images', 'imgs', 'img', '')),
               *(os.path.join(parent, name, os.path.basename(folder)) for name in ('', 'images', 'JPEGImages')),
               *(os.path.join(os.path.dirname(parent), name, os.path.basename(folder))
                 for name in ('images', 'JPEGImages'))]
    stated = (element.findtext('filename') or '').strip()
    suffix = PurePosixPath(stated).suffix
    image = index.find_stem(stem, folders=folders, suffix=suffix, place=file)
    if not image and stated:
        image = index.find(stated, folders=folders) or (index.find(stem + suffix) if suffix else '')
    return image


def _stated(element: Element) -> tuple[float, float] | None:
    try:
        return float(element.findtext('size/width') or 0), float(element.findtext('size/height') or 0)
    except ValueError:
        return None


def _objects(path: Path, element: Element, left_out: Findings, notes: Findings) -> list[_Object]:
    objects = []
    for position, node in enumerate(element.findall('object'), start=1):
        place = f'{path}, object {position}'
        name, box = (node.findtext('name') or '').strip(), node.find('bndbox')
        if not name:
            raise DataError(f'{place}: it has no <name>: name its class, or remove it')
        polygons = [_polygon(polygon, place, name) for polygon in node.findall('polygon')]
        if box is None and not polygons:
            left_out.add('objects without <bndbox>, such as rotated boxes', f'{path.name}, object {position}')
            continue
        corners = [] if box is None else [number(box.findtext(key), place, f'<{key}> of {name}') for key in _CORNERS]
        if corners and (corners[0] > corners[2] or corners[1] > corners[3]):
            raise DataError(f'{place} ({name}): xmin, ymin, xmax, ymax are {corners}: the minimum is larger than the '
                            'maximum. Correct or remove the box')
        difficult = (node.findtext('difficult') or '0').strip() not in ('0', '', 'false', 'False')
        if difficult:
            notes.add('objects marked difficult, which are ignored in training and evaluation', place)
        for _ in node.findall('part'):
            left_out.add('parts of objects', path.name)
        objects.append(_Object(name, (corners[0], corners[1], corners[2], corners[3]) if corners else None, polygons,
                               difficult))
    return objects


def _polygon(element: Element, place: str, name: str) -> list[float]:
    """Reads x, y, x, y, ... of the points of a polygon. Raises DataError if it has fewer than three."""
    points = [(point.findtext('x'), point.findtext('y')) for point in element.findall('pt')]
    if not points:
        count = sum(re.fullmatch(r'x\d+', child.tag) is not None for child in element)
        points = [(element.findtext(f'x{index}'), element.findtext(f'y{index}')) for index in range(1, count + 1)]
    if len(points) < 3:
        raise DataError(f'{place} ({name}): its polygon has {len(points)} points, expected at least 3, as <x1>, <y1>, '
                        '<x2>, ... or <pt><x>, <y></pt>: correct or remove it')
    return [number(value, place, f'a coordinate of the polygon of {name}') for point in points for value in point]


def _labeled(item: _Object, from_zero: bool) -> LabeledObject:
    shift = 0.0 if from_zero else 0.5  # centers of pixels that count from 1
    polygons = [[round(value - shift, 3) for value in polygon] for polygon in item.polygons]
    return LabeledObject(item.name, _box(item.corners, from_zero) if item.corners else box_of(polygons),
                         polygons or None, is_crowd=item.is_difficult)


def _box(corners: Box, from_zero: bool) -> Box:
    left, top, right, bottom = corners
    return round_box(left, top, right, bottom) if from_zero else round_box(left - 1, top - 1, right, bottom)


def _listed_splits(root: Path, index: ImageIndex, image_of: dict[str, str], left_out: Findings) -> dict[str, str]:
    """Reads ImageSets/Main/{train,val,test,trainval}.txt: split of each image; empty without lists.

    Raises:
        DataError: an image is missing or belongs to several splits.
    """
    by_stem = {(os.path.dirname(os.path.dirname(file)), nfc(PurePosixPath(file).stem)): image
               for file, image in image_of.items()}
    splits: dict[str, str] = {}
    for top, folder in _list_folders(root):
        base = top.relative_to(root).as_posix().removeprefix('.')
        files = {name: folder / f'{name}.txt' for name in _LISTS if (folder / f'{name}.txt').is_file()}
        if 'train' in files and 'val' in files:
            files.pop('trainval', None)
        for name, path in files.items():
            for position, line in enumerate(read_text(path).splitlines(), start=1):
                stem = nfc(line.strip())
                if not stem:
                    continue
                # A second column, if there is one, states whether the image shows a class.
                stem = stem if (base, stem) in by_stem else re.sub(r'\s+(-1|0|1)$', '', stem)
                stem = stem if (base, stem) in by_stem else PurePosixPath(stem).stem
                image = by_stem.get((base, stem))
                if image is None:
                    _refuse_missing(index, path, position, stem, base)
                    left_out.add(f'images listed in {path.name} without an XML file', stem)
                elif splits.setdefault(image, _LISTS[name]) != _LISTS[name]:
                    raise DataError(f'{path}, line {position}: {image} is in the lists of two splits '
                                    f'({splits[image]} and {_LISTS[name]}): remove it from one of them')
    return splits


def _list_folders(root: Path) -> list[tuple[Path, Path]]:
    """Returns the folders with lists of splits, each after the folder with its Annotations."""
    found = {folder.parent.parent: folder for folder in root.glob('**/ImageSets/Main')}
    for folder in [*root.glob('**/ImageSets'), *root.glob('**/Main')]:  # as some programs write them
        if any((folder / f'{name}.txt').is_file() for name in _LISTS) and (folder.parent / 'Annotations').is_dir():
            found.setdefault(folder.parent, folder)
    return sorted(found.items())


def _refuse_missing(index: ImageIndex, path: Path, position: int, stem: str, base: str) -> None:
    folders = [os.path.join(base, name) for name in ('JPEGImages', 'images', '')]
    if not index.find_stem(stem, folders=folders) and not index.find(stem, folders=folders):
        raise DataError(f'{path}, line {position}: there is no image {stem} and no XML file: add them, or remove the '
                        'line')


def _check_unique(images: list[LabeledImage]) -> None:
    repeated = sorted(name for name, count in Counter(image.file_name for image in images).items() if count > 1)
    if repeated:
        raise DataError(f'{len(repeated)} images have several XML files ({first_few(repeated)}): remove all but one')
