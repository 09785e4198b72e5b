"""Reads and validates annotation files in COCO's format once, and keeps a small summary of each."""
import codecs
import gc
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from mae_backbone.data.index import cache_folder
from mae_backbone.formats.coco_consistency import Consistency
from mae_backbone.formats.coco_masks import is_finite, mask_fault
from mae_backbone.formats.coco_objects import Id, IdList, TrainedObjects
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.messages import does_not_exist, first_few
from mae_backbone.formats.other_layouts import describe_layout
from mae_backbone.utils.atomic_write import write_bytes
from mae_backbone.utils.memory import available_memory

# Fields that CocoDataset of mmdet and pycocotools require.
_FIELDS = {'images': ('id', 'file_name', 'width', 'height'),
           'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
           'categories': ('id', 'name')}
_SMALL = 2**26  # number of characters of a file below which its memory is not estimated
# Lower bound of the memory in bytes for each of these characters when CPython 3.11 parses JSON: a dict, a list, a
# number and its place in a list, and half of a string. The training set of COCO has 470 MB and needs 2.6 GB.
_BYTES_PER_CHARACTER = {'{': 184, '[': 64, ',': 24, '"': 16}
NO_ISCROWD = "no 'iscrowd'"
TEXT_ID = 'an id that is text'


class CocoImage(NamedTuple):
    """An entry of `images`. Width and height are in pixels."""

    file_name: str
    width: float
    height: float


class MaskFault(NamedTuple):
    """A kind of fault of segmentations."""

    kind: str       # 'missing', 'partial', 'broken' or 'misfit', see `mask_fault`
    category: Id    # category of the objects
    trained: bool   # True if mmdet trains on these objects


@dataclass
class CocoFile:
    """Summary of an annotation file.

    Attributes:
        path: path of the file.
        categories: names by id, in the order of the file. mmdet numbers labels in this order.
        images: images by id.
        has_annotations: True if there is a list of annotations. The test sets of COCO have none.
        num_boxes: number of objects that mmdet trains on, by category id; without crowds, which mmdet ignores.
        annotated_images: ids of the images with any annotation, by category id.
        num_crowds: number of boxes that mark a crowd, by category id.
        num_skipped: number of boxes that mmdet skips: without area, outside their image, or marked "ignore".
        images_with_skipped: ids of the images of these boxes, in the order of the file.
        num_out_of_bounds: number of objects and crowds that reach more than a pixel beyond their image.
        mask_faults: ids of the annotations with a faulty segmentation, by fault.
        metric_faults: ids of the annotations that pycocotools cannot evaluate, by fault.
        has_id_zero: True if an annotation has the id 0, which pycocotools always counts as not detected.
        num_images_by_url: number of images that have a URL, but no file name, as in LVIS.
        consistency: contradictions between fields of the objects.
        objects: objects in `num_boxes`.
    """
    path: str
    categories: dict[Id, str]
    images: dict[Id, CocoImage]
    has_annotations: bool
    num_boxes: Counter[Id] = field(default_factory=Counter)
    annotated_images: dict[Id, set[Id]] = field(default_factory=lambda: defaultdict(set))
    num_crowds: Counter[Id] = field(default_factory=Counter)
    num_skipped: int = 0
    images_with_skipped: dict[Id, None] = field(default_factory=dict)
    num_out_of_bounds: int = 0
    mask_faults: dict[MaskFault, IdList] = field(default_factory=lambda: defaultdict(IdList))
    metric_faults: dict[str, IdList] = field(default_factory=lambda: defaultdict(IdList))
    has_id_zero: bool = False
    num_images_by_url: int = 0
    consistency: Consistency = field(default_factory=Consistency)
    objects: TrainedObjects = field(default_factory=TrainedObjects)

    def faulty_masks(self, kind: str, categories: Collection[Id], *, trained_only: bool) -> list[Id]:
        """Returns the ids of annotations of some categories whose segmentation has a fault of this kind.

        Args:
            kind: see `mask_fault`.
            categories: category ids.
            trained_only: True to exclude annotations that mmdet skips.
        """
        return [annotation for fault, ids in self.mask_faults.items() for annotation in ids
                if fault.kind == kind and fault.category in categories and (fault.trained or not trained_only)]


def read_coco(path: str, *, root: str = '') -> CocoFile:
    """Reads an annotation file. A second call for the same, unchanged file returns the cached summary.

    Args:
        path: path of the file.
        root: folder of the data. If the file does not exist, the error message names the layout that this folder seems
            to have.

    Raises:
        DataError: the file is missing, is not JSON, is not in COCO's format, or contradicts itself.
    """
    if not os.path.isfile(path):
        layout = describe_layout(root)
        advice = layout or 'set ann_file of the data set, or pass the folder of the data with --data-root DIR'
        raise DataError(f'annotation file {does_not_exist(path, suffix=".json")}: {advice}')
    status = os.stat(path)
    return _read(path, status.st_mtime_ns, status.st_size)


def without_byte_order_mark(path: str) -> str:
    """Returns the path of a file without a byte-order mark: the file itself, or a copy in the cache.

    `read_coco` reads JSON that starts with a byte-order mark, but mmdet and pycocotools do not.
    """
    try:
        with open(path, 'rb') as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                return path
            content = file.read()
    except OSError:
        return path
    digest = hashlib.sha256(content).hexdigest()[:16]
    copy = cache_folder() / 'annotations' / f'{digest}_{os.path.basename(path)}'
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, content)
    return str(copy)


def read_content(path: str) -> dict:
    """Reads the JSON object of an annotation file that `read_coco` accepts."""
    content = _parse(path, os.path.getsize(path))
    assert isinstance(content, dict), 'read_coco accepts objects only'
    return content


def read_annotations(path: str, image_ids: Collection[Id]) -> list[dict]:
    """Reads the annotations of some images in a file that `read_coco` accepts.

    The other annotations are not kept in memory.

    Args:
        path: path of the file.
        image_ids: ids of the images.
    """
    def keep(entry: dict) -> dict | None:
        is_other = 'bbox' in entry and entry.get('image_id') not in wanted
        return None if is_other else entry

    wanted = list(image_ids)
    content = _parse(path, os.path.getsize(path), keep)
    return [annotation for annotation in content.get('annotations', []) if annotation is not None]


def image_file(image: dict) -> str | None:
    """Returns the file name of an entry of `images`.

    Images of LVIS have only `coco_url`. In this case the file name is the last folder and the name in the URL.
    """
    if 'file_name' in image or not isinstance(image.get('coco_url'), str):
        return image.get('file_name')
    return '/'.join(image['coco_url'].split('/')[-2:])


def is_trained(annotation: dict, image: CocoImage) -> bool:
    """True if mmdet trains on an annotation (`CocoDataset.parse_data_info`)."""
    x, y, width, height = annotation['bbox']
    inside = min(x + width, image.width) - max(x, 0) > 0 and min(y + height, image.height) - max(y, 0) > 0
    return inside and not annotation.get('ignore') and annotation['area'] > 0 and width >= 1 and height >= 1


# ---- reading

@lru_cache(maxsize=16)
def _read(path: str, modified: int, size: int) -> CocoFile:
    """Reads a file; `modified` and `size` are part of the cache key."""
    was_enabled = gc.isenabled()
    gc.disable()  # Traversing millions of JSON objects again and again takes half of the time with COCO.
    try:
        content = _with_lists(path, _parse(path, size))
        num_images_by_url = _fill_file_names(content['images'])
        for key in _FIELDS:
            _check_entries(path, key, content.get(key, []))
        _check_references(path, content)
        return _summarize(path, content, num_images_by_url)
    finally:
        if was_enabled:
            gc.enable()


def _parse(path: str, size: int, object_hook: Callable[[dict], dict | None] | None = None) -> Any:
    if not size:
        raise DataError(f'{path} is empty (0 bytes): copy it again')
    text = ''
    try:
        with open(path, encoding='utf-8-sig') as file:  # some editors start files with a byte-order mark
            text = file.read()
        _check_memory(path, text)
        return json.loads(text, object_hook=object_hook)
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is not JSON: byte {error.start} is not text: expected annotations in COCO\'s format, '
                        'uncompressed and in UTF-8') from error
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith('{') and not text.rstrip().endswith('}'):
            raise DataError(f'{path} is truncated after {size:,} bytes: copy it again') from error
        # The content is not shown: a config may name a file that does not hold annotations.
        if text.startswith('version https://git-lfs'):
            raise DataError(f'{path} is a pointer of Git LFS: run git lfs pull') from error
        raise DataError(f'{path} is not JSON ({error}): expected annotations in COCO\'s format') from error


def _check_memory(path: str, text: str) -> None:
    """Refuses a file whose content needs more memory than is free, before it is parsed."""
    if len(text) < _SMALL:
        return
    needed = sum(size * text.count(character) for character, size in _BYTES_PER_CHARACTER.items())
    if needed > available_memory():
        raise DataError(f'{path} would take about {needed / 1e9:.1f} GB of memory, and {available_memory() / 1e9:.1f} '
                        'GB are free: split it, or remove what is not needed')


# ---- validation

def _with_lists(path: str, content: Any) -> dict:
    """Returns the content of a file if it has the lists of COCO's format."""
    contains = f'the keys {first_few(content) or "(none)"}' if isinstance(content, dict) else (
        f'a {type(content).__name__}')
    for key in ('images', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f'{path} has no list {key!r}, it contains {contains}: expected COCO\'s format, an object '
                            'with the lists images, annotations and categories')
        if not content[key]:
            raise DataError(f'{path}: the list {key!r} is empty: expected at least one entry')
    return content


def _fill_file_names(images: list) -> int:
    """Sets `file_name` of images that have only a URL. Returns their number."""
    by_url = [image for image in images
              if isinstance(image, dict) and 'file_name' not in image and image_file(image)]
    for image in by_url:
        image['file_name'] = image_file(image)
    return len(by_url)


def _check_entries(path: str, key: str, entries: Any) -> None:
    """Refuses entries of a list that lack a field or have a value of the wrong type."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f'{path}: {key!r} contains something other than objects: expected a list of objects with '
                        f'{", ".join(_FIELDS[key])}')
    for name in _FIELDS[key]:
        advice = ('add it, width * height of the box if there is no mask' if name == 'area' else
                  'add them, or remove these entries')
        _refuse(path, key, entries, [entry for entry in entries if name not in entry], f'have no {name!r}', advice)
        wrong = [entry for entry in entries if not _VALID[name](entry[name])]
        _refuse(path, key, entries, wrong, f'have a {name!r} that is not {_EXPECTED[name]}', 'correct or remove them',
                show=name)
    if key == 'annotations':
        wrong = [entry for entry in entries if entry.get('iscrowd', 0) not in (0, 1)]
        _refuse(path, key, entries, wrong, "have an 'iscrowd' that is neither 0 nor 1", 'correct them', show='iscrowd')
    repeated = [number for number, count in Counter(entry['id'] for entry in entries).items() if count > 1]
    if repeated:
        raise DataError(f'{path}: {len(repeated)} ids in {key!r} occur more than once ({first_few(repeated)}): '
                        'give every entry a unique id')
    if key == 'categories':
        _check_category_names(path, entries)


def _check_category_names(path: str, categories: Sequence[dict]) -> None:
    """Refuses a class name that two categories share: mmdet and the metric would mix them up."""
    ids: dict[str, list[Id]] = defaultdict(list)
    for category in categories:
        ids[category['name'].strip()].append(category['id'])
    repeated = {name: numbers for name, numbers in ids.items() if len(numbers) > 1}
    if repeated:
        examples = first_few(f'{name!r} with the ids {" and ".join(map(str, numbers))}'
                             for name, numbers in repeated.items())
        raise DataError(f'{path}: {len(repeated)} names occur in more than one category ({examples}): give every '
                        'category a unique name, or merge these categories')


def _check_references(path: str, content: dict) -> None:
    annotations = content.get('annotations', [])
    for name, key in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id'] for entry in content[key]}
        _refuse(path, 'annotations', annotations, [entry for entry in annotations if entry[name] not in known],
                f'refer to {key} that the file does not list', f'add these {key}, or remove these annotations',
                show=name)


def _refuse(path: str, key: str, entries: Sequence[dict], wrong: Sequence[dict], fault: str, advice: str, *,
            show: str = 'id') -> None:
    if wrong:
        examples = first_few(f'{show} {entry.get(show)!r:.60}' for entry in wrong)
        raise DataError(f'{path}: {len(wrong):,} of {len(entries):,} {key} {fault} ({examples}): {advice}')


def _is_id(value: object) -> bool:
    """True for text, and for integers of 64 bits, which pycocotools can store."""
    return isinstance(value, str) or (type(value) is int and -2**63 <= value < 2**63)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


def _is_length(value: Any) -> bool:
    return is_finite(value) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value))


_VALID: dict[str, Callable[[object], bool]] = {
    'id': _is_id, 'image_id': _is_id, 'category_id': _is_id, 'file_name': _is_text, 'name': _is_text,
    'width': _is_length, 'height': _is_length, 'area': is_finite, 'bbox': _is_box}
_EXPECTED = {'id': 'an integer or text', 'image_id': 'an integer or text', 'category_id': 'an integer or text',
             'file_name': 'text', 'name': 'text', 'width': 'a positive number', 'height': 'a positive number',
             'area': 'a finite number', 'bbox': 'a list of four finite numbers (x, y, width, height)'}


# ---- summary

def _summarize(path: str, content: dict, num_images_by_url: int) -> CocoFile:
    images = {image['id']: CocoImage(image['file_name'], image['width'], image['height'])
              for image in content['images']}
    file = CocoFile(path, {category['id']: category['name'] for category in content['categories']}, images,
                    'annotations' in content, num_images_by_url=num_images_by_url)
    image_positions = {number: (position, number) for position, number in enumerate(images)}
    categories = {number: position for position, number in enumerate(file.categories)}
    for annotation in content.get('annotations', []):
        # The id in the list of images is kept instead of its copy in the annotation, so that the memory of all
        # annotations becomes free.
        position, image_id = image_positions[annotation['image_id']]
        if _add(file, annotation, image_id):
            file.objects.add(annotation, position, categories[annotation['category_id']])
    file.consistency.close()
    return file


def _add(file: CocoFile, annotation: dict, image_id: Id) -> bool:
    """Counts an annotation. Returns True if mmdet trains on it as an object."""
    number, category, image = annotation['id'], annotation['category_id'], file.images[image_id]
    trained = is_trained(annotation, image)
    file.annotated_images[category].add(image_id)
    file.has_id_zero |= number == 0
    mask_kind = mask_fault(annotation.get('segmentation'), image.width, image.height)
    if mask_kind:
        file.mask_faults[MaskFault(mask_kind, category, trained)].append(number)
    if fault := _metric_fault(annotation):
        file.metric_faults[fault].append(number)
    if not trained:
        file.num_skipped += 1
        file.images_with_skipped[image_id] = None
        file.consistency.num_relative += all(0 <= value <= 1 for value in annotation['bbox'])
        return False
    file.num_out_of_bounds += _is_out_of_bounds(annotation['bbox'], image)
    if annotation.get('iscrowd'):
        file.num_crowds[category] += 1
        return False
    file.num_boxes[category] += 1
    file.consistency.add(annotation, image.width, image.height, has_mask=mask_kind in ('', 'partial'))
    return True


def _metric_fault(annotation: dict) -> str:
    """Returns the reason why pycocotools (`COCOeval`) would fail with an annotation; '' if it would not."""
    return TEXT_ID if isinstance(annotation['id'], str) else '' if 'iscrowd' in annotation else NO_ISCROWD


def _is_out_of_bounds(box: list[float], image: CocoImage) -> bool:
    x, y, width, height = box
    return min(x, y) < -1 or x + width > image.width + 1 or y + height > image.height + 1
