"""Summaries of annotation files in COCO's format."""
import gc
import os
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from mae_backbone.formats.coco_consistency import Consistency
from mae_backbone.formats.coco_json import parse
from mae_backbone.formats.coco_masks import mask_fault
from mae_backbone.formats.coco_objects import Id, IdList, TrainedObjects
from mae_backbone.formats.coco_validation import validated
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.messages import does_not_exist
from mae_backbone.formats.other_layouts import describe_layout

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
        num_rotated: number of objects with a rotation in `attributes`, as CVAT writes it next to the box before the
            rotation.
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
    num_rotated: int = 0
    consistency: Consistency = field(default_factory=Consistency)
    objects: TrainedObjects = field(default_factory=TrainedObjects)

    @property
    def repeated_images(self) -> list[str]:
        """File names that several images have."""
        return [name for name, count in Counter(image.file_name for image in self.images.values()).items() if count > 1]

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


def is_trained(annotation: dict, image: CocoImage) -> bool:
    """True if mmdet trains on an annotation (`CocoDataset.parse_data_info`)."""
    x, y, width, height = annotation['bbox']
    inside = min(x + width, image.width) - max(x, 0) > 0 and min(y + height, image.height) - max(y, 0) > 0
    return inside and not annotation.get('ignore') and annotation['area'] > 0 and width >= 1 and height >= 1


@lru_cache(maxsize=16)
def _read(path: str, modified: int, size: int) -> CocoFile:
    """Reads a file; `modified` and `size` are part of the cache key."""
    was_enabled = gc.isenabled()
    gc.disable()  # Traversing millions of JSON objects again and again takes half of the time with COCO.
    try:
        return _summarize(path, *validated(path, parse(path, size)))
    finally:
        if was_enabled:
            gc.enable()


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
    attributes = annotation.get('attributes')
    file.num_rotated += isinstance(attributes, dict) and bool(attributes.get('rotation')) and bool(mask_kind)
    file.consistency.add(annotation, image.width, image.height, has_mask=mask_kind in ('', 'partial'))
    return True


def _metric_fault(annotation: dict) -> str:
    """Returns the reason why pycocotools (`COCOeval`) would fail with an annotation; '' if it would not."""
    return TEXT_ID if isinstance(annotation['id'], str) else '' if 'iscrowd' in annotation else NO_ISCROWD


def _is_out_of_bounds(box: list[float], image: CocoImage) -> bool:
    x, y, width, height = box
    return min(x, y) < -1 or x + width > image.width + 1 or y + height > image.height + 1
