"""Layouts of other programs, recognized to say how to convert them: Pascal VOC, YOLO, labelme, CVAT."""
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_NUM_ENTRIES = 2000  # maximum number of entries of a folder that are examined
_NUM_BYTES = 2 ** 16  # maximum number of bytes of a file that are read
_COCO = ("COCO's format: a JSON file per split with the lists images (id, file_name, width, height), annotations (id, "
         'image_id, category_id, bbox, area, iscrowd, segmentation; all in pixels) and categories (id, name)')


def describe_layout(root: str) -> str:
    """Says which program's layout a folder seems to have, and how to convert it; '' if none is recognized."""
    folder = Path(root)
    if not folder.is_dir():
        return ''
    for detect, description in _LAYOUTS:
        if detect(folder):
            return f'{root} seems to have the layout of {description}. Convert it to {_COCO}'
    return ''


def _entries(folder: Path, pattern: str) -> Iterator[Path]:
    return itertools.islice(folder.glob(pattern), _NUM_ENTRIES)


def _text(path: Path) -> str:
    try:
        with path.open('rb') as file:
            return file.read(_NUM_BYTES).decode('utf-8-sig', 'replace')
    except OSError:
        return ''


def _is_voc(folder: Path) -> bool:
    return any(path.suffix == '.xml' and '<object>' in _text(path)
               for path in itertools.islice(_entries(folder, '**/Annotations/*.xml'), 20))


def _is_cvat(folder: Path) -> bool:
    return any('<annotations>' in _text(path) and '<image ' in _text(path) for path in _entries(folder, '*.xml'))


def _is_yolo(folder: Path) -> bool:
    lists = itertools.islice(_entries(folder, '**/labels/**/*.txt'), 20)
    return any(_is_yolo_line(line) for path in lists for line in _text(path).splitlines()[:1])


def _is_yolo_line(line: str) -> bool:
    """Whether a line is a class number and at least four numbers in 0..1."""
    try:
        label, *numbers = line.split()
        return label.isdecimal() and len(numbers) >= 4 and all(0 <= float(number) <= 1 for number in numbers)
    except ValueError:
        return False


def _is_labelme(folder: Path) -> bool:
    for path in itertools.islice(_entries(folder, '**/*.json'), 20):
        text = _text(path)
        if '"shapes"' not in text:
            continue
        if os.path.getsize(path) > _NUM_BYTES:  # with the image inside
            return '"imagePath"' in text or '"version"' in text
        try:
            content = json.loads(text)
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get('shapes'), list) and 'imagePath' in content:
            return True
    return False


_LAYOUTS: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (_is_cvat, 'CVAT for images (an XML file with all annotations): export the task again from CVAT as "COCO 1.0". Or '
               'convert box (xtl, ytl, xbr, ybr) to bbox = xtl, ytl, xbr - xtl, ybr - ytl, and the points of polygons '
               'to segmentation'),
    (_is_voc, 'Pascal VOC (Annotations/*.xml, JPEGImages, ImageSets): pixels count from 1, so that '
              'bbox = xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1'),
    (_is_yolo, 'YOLO (images/, labels/*.txt, data.yaml): with the class, center and size of each line relative to the '
               'image, bbox = (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height; lines with more '
               'numbers are polygons. Class 0 of data.yaml becomes the first category'),
    (_is_labelme, 'labelme (a JSON file next to each image): the points of a polygon become segmentation, and the box '
                  'around them bbox; a rectangle has two corners'),
)
