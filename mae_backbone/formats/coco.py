"""Annotation files in COCO's format: read once, judged, and kept as a summary that is small even for COCO itself."""
import gc
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mae_backbone.formats.dataset_spec import DataError, Source, absent, does_not_exist, some

# mmdet's CocoDataset and pycocotools look these up without a default.
_FIELDS = {'images': ('id', 'file_name', 'width', 'height'),
           'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
           'categories': ('id', 'name')}
NO_CROWD = "no 'iscrowd'"


class MaskFault(NamedTuple):
    """What is wrong with some segmentations."""

    kind: str             # 'missing'; 'partial' or 'broken': mmdet drops some or all polygons; 'misfit': no mask at all
    category: int | str   # of the objects
    used: bool            # whether mmdet trains on them


@dataclass(frozen=True)
class CocoFile:
    """What an annotation file holds.

    Attributes:
        path: of the file.
        categories: names by id, in the order of the file, in which mmdet numbers its labels.
        images: (name of the file, width, height) in pixels, by id.
        labeled: whether there is a list of annotations at all; COCO's test sets have none.
        boxes: number of boxes that mmdet trains on, by category id.
        annotated: ids of the images with any annotation, by category id.
        crowds: number of those boxes that stand for a crowd.
        useless: number of boxes that mmdet leaves out: without area, outside of their image, or marked to be ignored.
        beyond: number of the boxes trained on that reach beyond their image by more than a pixel.
        mask_faults: ids of the annotations whose segmentation is at fault, by what is wrong with it.
        unevaluable: ids of the annotations that pycocotools cannot evaluate with, by what is wrong with them.
        never_found: whether there is an annotation of the id 0, by which pycocotools takes an object for not found.
        by_address: number of images that are named by their address alone, as in LVIS.
    """
    path: str
    categories: dict[int | str, str]
    images: dict[int | str, tuple[str, float, float]]
    labeled: bool
    boxes: Counter = field(default_factory=Counter)
    annotated: dict[int | str, set] = field(default_factory=lambda: defaultdict(set))
    crowds: int = 0
    useless: int = 0
    beyond: int = 0
    mask_faults: dict[MaskFault, list[int | str]] = field(default_factory=dict)
    unevaluable: dict[str, list[int | str]] = field(default_factory=dict)
    never_found: bool = False
    by_address: int = 0

    def faults(self, kind: str, categories: Sequence[int | str], *, used: bool) -> list[int | str]:
        """Ids of the annotations of these categories with that fault; of those that mmdet trains on alone, if `used`.
        """
        return [number for fault, ids in self.mask_faults.items() for number in ids
                if fault.kind == kind and fault.category in categories and (fault.used or not used)]


def image_file(image: dict) -> str | None:
    """The file of an entry of `images`; with LVIS, which names an address alone, the last folder and name of that."""
    if 'file_name' in image or not isinstance(image.get('coco_url'), str):
        return image.get('file_name')
    return '/'.join(image['coco_url'].split('/')[-2:])


def read_coco(path: str) -> CocoFile:
    """Reads an annotation file; a second call for the same, unchanged file costs nothing.

    Raises:
        DataError: the file is missing, is no JSON, is not in COCO's format, or contradicts itself.
    """
    if not os.path.isfile(path):
        raise DataError(f'annotation file {does_not_exist(path, suffix=".json")}: set ann_file of the data set, '
                        'or give the folder that it lies in with --data-root DIR')
    status = os.stat(path)
    return _read(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _read(path: str, _: int, size: int) -> CocoFile:
    collects = gc.isenabled()
    gc.disable()  # it would look at millions of objects again and again, for half of the time (COCO)
    try:
        return _judge(path, _parse(path, size))
    finally:
        if collects:
            gc.enable()


def _judge(path: str, content: object) -> CocoFile:
    found = f'a {type(content).__name__}' if not isinstance(content, dict) else f'the keys {some(content) or "(none)"}'
    for key in ('images', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f'{path} has no list {key!r}, it holds {found}: wanted COCO\'s format, an object with the '
                            'lists images, annotations and categories')
        if not content[key]:
            raise DataError(f'{path}: the list {key!r} is empty: wanted at least one entry')
    by_address = 0
    for image in content['images']:
        if isinstance(image, dict) and 'file_name' not in image and image_file(image):
            image['file_name'], by_address = image_file(image), by_address + 1
    for key in _FIELDS:
        _check_entries(path, key, content.get(key, []))
    return replace(_summary(path, content), by_address=by_address)


def _parse(path: str, size: int) -> object:
    if not size:
        raise DataError(f'{path} is empty (0 bytes): copy it again')
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is no JSON: it is not text at byte {error.start}: wanted annotations in COCO\'s '
                        'format, unpacked and in UTF-8') from error
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith('{') and not text.rstrip().endswith('}'):
            raise DataError(f'{path} is cut off after {size:,} bytes, it ends with {text[-20:]!r}: '
                            'copy it again') from error
        raise DataError(f'{path} is no JSON ({error}), it begins with {text[:40]!r}: wanted annotations in COCO\'s '
                        'format') from error


def _check_entries(path: str, key: str, entries: object) -> None:
    """Refuses entries of a list that lack something or hold something of the wrong type."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f'{path}: {key!r} holds something other than objects: wanted a list of objects with '
                        f'{", ".join(_FIELDS[key])}')
    for name in _FIELDS[key]:
        advice = ('add it, width * height of the box where there is no mask' if name == 'area' else
                  'add them, or remove these entries')
        _refuse(path, key, entries, [entry for entry in entries if name not in entry], f'have no {name!r}', advice)
        wrong = [entry for entry in entries if not _VALID[name](entry[name])]
        _refuse(path, key, entries, wrong, f'have a {name!r} that is not {_WANTED[name]}', 'correct or remove them',
                show=name)
    if key == 'annotations':
        wrong = [entry for entry in entries if entry.get('iscrowd', 0) not in (0, 1)]
        _refuse(path, key, entries, wrong, "have an 'iscrowd' that is neither 0 nor 1", 'correct them', show='iscrowd')
    twice = [number for number, count in Counter(entry['id'] for entry in entries).items() if count > 1]
    if twice:
        raise DataError(f'{path}: {len(twice)} of the ids in {key!r} stand there more than once ({some(twice)}): '
                        'number the entries anew, each with an id of its own')


def _refuse(path: str, key: str, entries: list[dict], wrong: list[dict], fault: str, advice: str, *,
            show: str = 'id') -> None:
    if wrong:
        examples = some(f'{show} {entry.get(show)!r:.60}' for entry in wrong)
        raise DataError(f'{path}: {len(wrong):,} of {len(entries):,} {key} {fault} ({examples}): {advice}')


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e12  # neither infinite nor NaN


def _is_length(value: object) -> bool:
    return _is_number(value) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_VALID: dict[str, Callable[[object], bool]] = {
    'id': _is_id, 'image_id': _is_id, 'category_id': _is_id, 'file_name': _is_text, 'name': _is_text,
    'width': _is_length, 'height': _is_length, 'area': _is_number, 'bbox': _is_box}
_WANTED = {'id': 'a whole number or text', 'image_id': 'a whole number or text',
           'category_id': 'a whole number or text',
           'file_name': 'text', 'name': 'text', 'width': 'a positive number', 'height': 'a positive number',
           'area': 'a finite number', 'bbox': 'a list of four finite numbers (x, y, width, height)'}


def _summary(path: str, content: dict) -> CocoFile:
    images = {image['id']: (image['file_name'], image['width'], image['height']) for image in content['images']}
    categories = {category['id']: category['name'] for category in content['categories']}
    annotations = content.get('annotations', [])
    for name, known, of in (('image_id', images, 'images'), ('category_id', categories, 'categories')):
        _refuse(path, 'annotations', annotations, [entry for entry in annotations if entry[name] not in known],
                f'name {of} that the file does not list', f'add those {of}, or remove these annotations', show=name)
    file = CocoFile(path, categories, images, 'annotations' in content)
    faults, unevaluable, crowds, useless, beyond = defaultdict(list), defaultdict(list), 0, 0, 0
    for entry in annotations:
        number, category, image = entry['id'], entry['category_id'], images[entry['image_id']]
        file.annotated[category].add(entry['image_id'])
        used = is_used(entry, image)
        if kind := mask_fault(entry.get('segmentation'), image):
            faults[MaskFault(kind, category, used)].append(number)
        if kind := _evaluation_fault(entry):
            unevaluable[kind].append(number)
        if not used:
            useless += 1
            continue
        file.boxes[category] += 1
        crowds += bool(entry.get('iscrowd'))
        beyond += _reaches_out(entry['bbox'], image)
    return replace(file, crowds=crowds, useless=useless, beyond=beyond, mask_faults=dict(faults),
                   unevaluable=dict(unevaluable), never_found=any(entry['id'] == 0 for entry in annotations))


def is_used(entry: dict, image: tuple[str, float, float]) -> bool:
    """Whether mmdet trains on an annotation of an image (name, width, height) (`CocoDataset.parse_data_info`)."""
    (x, y, width, height), (_, image_width, image_height) = entry['bbox'], image
    inside = (min(x + width, image_width) - max(x, 0) > 0 and min(y + height, image_height) - max(y, 0) > 0)
    return inside and not entry.get('ignore') and entry['area'] > 0 and width >= 1 and height >= 1


def _reaches_out(box: list[float], image: tuple[str, float, float]) -> bool:
    (x, y, width, height), (_, image_width, image_height) = box, image
    return min(x, y) < -1 or x + width > image_width + 1 or y + height > image_height + 1


def _evaluation_fault(entry: dict) -> str:
    """Why pycocotools (`COCOeval`) stops at an annotation; '' where it does not."""
    return 'an id that is text' if isinstance(entry['id'], str) else '' if 'iscrowd' in entry else NO_CROWD


def mask_fault(segmentation: object, image: tuple[str, float, float]) -> str:
    """The kind of `MaskFault` of a segmentation of an image (name, width, height), '' for none.

    As mmdet's `LoadAnnotations` has it: of 'broken' ones it ignores the box, at 'misfit' ones it fails.
    """
    if not segmentation:
        return 'missing'
    if isinstance(segmentation, list):
        if not all(_is_polygon(polygon) for polygon in segmentation):
            return 'misfit'
        whole = [len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation]
        return '' if all(whole) else 'partial' if any(whole) else 'broken'
    if not isinstance(segmentation, dict):
        return 'misfit'
    counts, size = segmentation.get('counts'), segmentation.get('size')
    if not isinstance(counts, (list, str)) or size is None:
        return 'broken'
    return '' if size == [image[2], image[1]] and _covers(counts, size[0] * size[1]) else 'misfit'


def _is_polygon(value: object) -> bool:
    """Whether it is a list of finite numbers. COCO has 30 million: each is looked at by the interpreter's own loops."""
    return isinstance(value, list) and set(map(type, value)) <= {int, float} and _is_number(sum(value))


def _covers(counts: list | str, pixels: float) -> bool:
    """Whether the run lengths of a mask, plain or compressed, are whole and come to all pixels of the image."""
    lengths = _decompressed(counts) if isinstance(counts, str) else counts
    return bool(lengths) and set(map(type, lengths)) == {int} and min(lengths) >= 0 and sum(lengths) == pixels


def _decompressed(text: str) -> list[int]:
    """Run lengths of COCO's compressed RLE; empty if it is none. pycocotools decodes anything, past its end too.

    Five bits a character, the lowest first, a sixth says that more follow; from the fourth on what is written is the
    difference to the length two before (cocoapi, common/maskApi.c).
    """
    codes = np.frombuffer(text.encode('latin1', 'replace'), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return []
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 11:  # more than 60 bits
        return []
    numbers = np.add.reduceat((codes & 31) << 5 * places, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * (places[ends] + 1), 0)  # the sign
    lengths = numbers.tolist()
    for i in range(3, len(lengths)):
        lengths[i] += lengths[i - 2]
    return lengths


# ---- against the config

def check_coco(source: Source, *, masks: bool, labeled: bool) -> list[str]:
    """Refuses what mmdet would stumble over or misunderstand; returns lines that say what there is.

    Args:
        source: of kind 'coco'.
        masks: whether segmentations are needed.
        labeled: whether annotations are needed.

    Raises:
        DataError: see there; the images themselves are not read.
    """
    file = read_coco(source.annotations)
    is_lvis = any(base.__name__ == 'LVISDataset' for base in source.cls.__mro__)
    if file.by_address and not is_lvis:
        raise DataError(f"{file.path}: {file.by_address:,} of {len(file.images):,} images have no 'file_name': add it, "
                        "or, for LVIS, which has coco_url instead, set type='mae_backbone.LVISDataset'")
    _check_classes(file, source.classes)
    wanted = [number for number, name in file.categories.items() if name in source.classes]
    boxes = sum(file.boxes[number] for number in wanted)
    if labeled and not file.labeled:
        raise DataError(f"{file.path} has no list 'annotations': set ann_file to the file with the labels; without "
                        'any, images can be predicted (tools/predict.py), but not trained on or tested with')
    if labeled and not boxes:
        raise DataError(f'{file.path}: none of its {len(file.images):,} images has a box of {some(source.classes)}: '
                        'label some, or set ann_file to the file with the annotations')
    evaluated = labeled and source.split != 'train'
    if masks:
        _check_masks(file, wanted, evaluated=evaluated)
    for fault, ids in file.unevaluable.items() if evaluated else ():
        if fault != NO_CROWD or not is_lvis:
            raise DataError(f'{file.path}: {len(ids):,} annotations have {fault} (id {some(ids)}), and COCO\'s metric, '
                            f'by which the {source.split} set is evaluated, wants whole numbers as ids, and "iscrowd": '
                            '0 where an object is no crowd: number them anew, or add it')
    _check_files(source, file)
    return [f'{source.split}: {len(file.images):,} images, {boxes:,} boxes of {len(wanted)} '
            f'class{"es" * (len(wanted) > 1)}'] + (_notes(source, file, wanted, masks=masks) if file.labeled else [])


def _check_classes(file: CocoFile, classes: list[str]) -> None:
    # mmdet numbers labels in the order of each file's categories, and names them in that of the classes.
    if [name for name in file.categories.values() if name in classes] != classes:
        raise DataError(f'{file.path}: its {len(file.categories)} categories ({some(file.categories.values())}) are '
                        f'not the {len(classes)} classes to train ({some(classes)}) in the same order, and labels '
                        'would be mixed up: write the same list of categories into the files of all splits, also '
                        'those that a split has no box of')


def _check_masks(file: CocoFile, wanted: list[int | str], *, evaluated: bool) -> None:
    """Refuses masks that mmdet or, where masks are evaluated, pycocotools would stumble over."""
    missing, misfit, partial, broken = (file.faults(kind, wanted, used=not evaluated)
                                        for kind in ('missing', 'misfit', 'partial', 'broken'))
    instead = 'or take a config for boxes only, such as one of Faster R-CNN'
    if missing:
        raise DataError(f'{file.path}: {len(missing):,} annotations have no segmentation (id {some(missing)}), but the '
                        f'config trains or tests masks: add the masks, {instead}')
    if misfit:
        raise DataError(f'{file.path}: {len(misfit):,} annotations have a segmentation that is no mask of their image '
                        f'(id {some(misfit)}): wanted a list of polygons [[x, y, ...], ...], or RLE whose size is the '
                        f'height and width of the image, all pixels of which its counts come to; correct or remove '
                        f'them, {instead}')
    if evaluated and (broken or partial):
        raise DataError(f'{file.path}: {len(broken + partial):,} annotations have polygons of fewer than three points '
                        f'or of an odd count of numbers, or RLE without counts and size (id {some(broken + partial)}), '
                        f'at which the evaluation would stop: correct or remove them, {instead}')


def _check_files(source: Source, file: CocoFile) -> None:
    folder = source.folder('img')
    if not os.path.isdir(folder):
        raise DataError(f'folder of images {does_not_exist(folder)}: set data_prefix of the {source.split} set, or '
                        'give the folder of the data with --data-root DIR')
    missing = absent(os.path.join(folder, name) for name, _, _ in file.images.values())
    if missing:
        raise DataError(f'{len(missing):,} of the {len(file.images):,} images that {file.path} names do not exist '
                        f'({some(missing)}): copy them there, correct file_name, or set data_prefix of the '
                        f'{source.split} set')


def _notes(source: Source, file: CocoFile, wanted: list[int | str], *, masks: bool) -> list[str]:
    """Lines on what is no mistake, but good to know; refuses images that mmdet would all leave out."""
    options = source.option('filter_cfg') or {} if source.split == 'train' else {}
    side, drops_empty = options.get('min_size', 0), options.get('filter_empty_gt', False)
    annotated = set().union(*(file.annotated.get(number, ()) for number in wanted))
    empty = file.images.keys() - annotated
    small = {number for number, (_, width, height) in file.images.items() if min(width, height) < side}
    if len(small | (empty if drops_empty else set())) == len(file.images):
        raise DataError(f'{file.path}: all images with annotations have a side below {side} pixels, and training '
                        'leaves such images out: set min_size in filter_cfg of the train set, or take larger images')
    unused = [file.categories[number] for number in wanted if not file.boxes[number]]
    notes = [(len(empty), 'images without annotations' + ', which training leaves out' * drops_empty),
             (len(small), f'images with a side below {side} pixels, which training leaves out'),
             (file.crowds, 'boxes that stand for crowds, which count neither way'),
             (file.useless, 'annotations without area, outside of their image or marked "ignore", which are left out'),
             (file.beyond, 'boxes that reach beyond their image, where they are cut (bbox is x, y, width, height)'),
             (len(file.faults('broken', wanted, used=True)) * masks,
              'annotations with polygons of fewer than three points or incomplete RLE, which count neither way'),
             (len(file.faults('partial', wanted, used=True)) * masks,
              'annotations of which some polygons have fewer than three points, and are left out'),
             (file.never_found * (source.split != 'train'),
              "annotations of the id 0, which COCO's metric never counts as found (number them from 1)"),
             (len(unused), f'classes without a box ({some(unused)})')]
    return [f'{source.split}: {note}: {count:,}' for count, note in notes if count]
