"""Labeled data set in memory: images, their objects and splits, independent of the layout on disk."""
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_rle

from mae_backbone.formats.messages import first_few

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
Segmentation = list[list[float]] | dict[str, Any]  # polygons x, y, x, y, ... or RLE, as in COCO's format

# Names of splits as programs write them -> our name.
SPLIT_NAMES = {'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val', 'test': 'test',
               'testing': 'test'}


class LabeledObject(NamedTuple):
    """An object in an image.

    Attributes:
        name: name of its class.
        box: x, y, width, height in pixels.
        segmentation: its mask; None if it has a box only.
        is_crowd: whether it marks a region to ignore in training and evaluation.
        id: number in a source that numbers its objects; None otherwise.
        stated_area: area in pixels that a source states; None otherwise.
    """

    name: str
    box: Box
    segmentation: Segmentation | None = None
    is_crowd: bool = False
    id: int | None = None
    stated_area: float | None = None


class LabeledImage(NamedTuple):
    """An image with its objects.

    Attributes:
        file_name: path relative to the root, with '/'.
        size: (width, height) in pixels.
        objects: objects in the order of the source; none for a background image.
        split: 'train', 'val' or 'test'; '' if the data do not state it.
        group: name of its group, whose images belong in the same split; '' for an image without a group.
        id: number in a source that numbers its images; None otherwise.
    """

    file_name: str
    size: tuple[int, int]
    objects: Sequence[LabeledObject]
    split: str = ''
    group: str = ''
    id: int | None = None


class Findings:
    """Counts what a reader leaves out or changes, with the first places of each."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = defaultdict(list)

    def add(self, what: str, place: str) -> None:
        """Counts a finding of a kind at a place, such as a file name."""
        self._places[what].append(place)

    def __getitem__(self, what: str) -> int:
        return len(self._places.get(what, ()))

    def lines(self) -> list[str]:
        """Returns a line for each kind: count and first places."""
        return [f'{what}: {len(places):,} ({first_few(places)})' for what, places in self._places.items()]


@dataclass
class LabeledSet:
    """Images with boxes or polygons.

    Attributes:
        root: folder that the file names are relative to.
        layout: name of the layout on disk, such as 'Pascal VOC'.
        names: class names in the order of the labels.
        images: all images.
        left_out: data that are not read.
        notes: data that are read in another way than a user may expect.
        category_ids: ids of the classes in a source that numbers them; 1, 2, ... otherwise.
    """

    root: Path
    layout: str
    names: list[str]
    images: list[LabeledImage]
    left_out: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)
    category_ids: list[int] = field(default_factory=list)

    @property
    def splits(self) -> set[str]:
        """Names of the splits that have images."""
        return {image.split for image in self.images}

    def lines(self) -> list[str]:
        """Describes the set for the plan."""
        num_objects = sum(len(image.objects) for image in self.images)
        num_empty = sum(not image.objects for image in self.images)
        by_split = ', '.join(f'{sum(image.split == split for image in self.images):,} {split or "without split"}'
                             for split in sorted(self.splits, key=['train', 'val', 'test', ''].index))
        lines = [f'layout: {self.layout} in {self.root}: {len(self.images):,} images ({by_split}), {num_objects:,} '
                 f'objects of {len(self.names)} classes, {num_empty:,} background images']
        return [*lines, *(f'layout: {line}' for line in self.notes.lines()),
                *(f'layout: left out: {line}' for line in self.left_out.lines())]

    def content(self, split: str) -> dict[str, Any]:
        """Returns a split in COCO's format. Ids of the source are kept if they are unique in the split."""
        ids = self.category_ids or list(range(1, len(self.names) + 1))
        id_of = dict(zip(self.names, ids, strict=True))
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        chosen = [image for image in self.images if image.split == split]
        keeps_images = _unique(image.id for image in chosen)
        keeps_objects = _unique(labeled.id for image in chosen for labeled in image.objects)
        for image in chosen:
            image_id = image.id if keeps_images else len(images) + 1
            images.append(dict(id=image_id, file_name=image.file_name, width=image.size[0], height=image.size[1]))
            for labeled in image.objects:
                number = labeled.id if keeps_objects else len(annotations) + 1
                annotations.append(dict(id=number, image_id=image_id, category_id=id_of[labeled.name])
                                   | _shape(labeled, image.size))
        return dict(info=dict(description=f'read from {self.layout}'), images=images, annotations=annotations,
                    categories=[dict(id=id_of[name], name=name) for name in self.names])


def _unique(ids: Iterable[int | None]) -> bool:
    """True if all ids are given and different."""
    listed = list(ids)
    return None not in listed and len(set(listed)) == len(listed)


def _shape(labeled: LabeledObject, size: tuple[int, int]) -> dict[str, Any]:
    shape = dict(bbox=list(labeled.box), area=area(labeled, size), iscrowd=int(labeled.is_crowd))
    return shape if labeled.segmentation is None else shape | dict(segmentation=labeled.segmentation)


def area(labeled: LabeledObject, size: tuple[int, int]) -> float:
    """Area of an object in pixels: as the source states it, or of its mask, or of its box if it has none.

    Args:
        labeled: the object.
        size: (width, height) of its image.
    """
    if labeled.stated_area is not None:
        return labeled.stated_area
    if isinstance(labeled.segmentation, list):
        return float(sum(polygon_area(polygon) for polygon in labeled.segmentation))
    if labeled.segmentation is not None:
        return float(coco_rle.area(compressed(labeled.segmentation, size)))
    return float(labeled.box[2] * labeled.box[3])


def compressed(rle: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Returns RLE with counts in COCO's compressed form, from plain or compressed RLE."""
    return coco_rle.frPyObjects(rle, size[1], size[0]) if isinstance(rle['counts'], list) else rle


def polygons_of(labeled: LabeledObject) -> list[list[float]]:
    """Polygons of an object; empty if it has a box or RLE only."""
    return labeled.segmentation if isinstance(labeled.segmentation, list) else []


def mask_object(name: str, pixels: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> LabeledObject:
    """An object with the mask of a part of an image.

    Args:
        name: name of its class.
        pixels: mask (H, W), 0 outside of the object, which lies inside of the image.
        corner: left column and top row of the mask in the image.
        size: (width, height) of the image.
    """
    (left, top), (height, width) = corner, pixels.shape
    whole = np.zeros((size[1], size[0]), np.uint8, order='F')
    whole[top:top + height, left:left + width] = pixels != 0
    rle: dict[str, Any] = coco_rle.encode(whole)
    x, y, box_width, box_height = coco_rle.toBbox(rle).tolist()
    return LabeledObject(name, (x, y, box_width, box_height), dict(size=[size[1], size[0]],
                                                                   counts=rle['counts'].decode()))


def polygon_area(polygon: Sequence[float]) -> float:
    """Area of a polygon x, y, x, y, ... (shoelace formula)."""
    x, y = np.array(polygon[0::2], float), np.array(polygon[1::2], float)
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def box_of(polygons: Iterable[Sequence[float]]) -> Box:
    """Returns the box around polygons x, y, x, y, ..."""
    points = np.concatenate([np.array(polygon, float).reshape(-1, 2) for polygon in polygons])
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return round_box(left, top, right, bottom)


def round_box(left: float, top: float, right: float, bottom: float) -> Box:
    """Corners -> x, y, width, height, rounded to a thousandth of a pixel."""
    return (round(float(left), 3), round(float(top), 3), round(float(right - left), 3), round(float(bottom - top), 3))


def with_rectangles(images: Iterable[LabeledImage], notes: Findings) -> list[LabeledImage]:
    """Gives boxes a mask of four corners, if other objects of the set have masks. Counts them in `notes`."""
    images = list(images)
    if not any(labeled.segmentation is not None for image in images for labeled in image.objects):
        return images
    result = []
    for image in images:
        objects = []
        for labeled in image.objects:
            if labeled.segmentation is None:
                notes.add('rectangles among polygons, which get a mask with four corners', image.file_name)
                x, y, width, height = labeled.box
                labeled = labeled._replace(
                    segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]])
            objects.append(labeled)
        result.append(image._replace(objects=objects))
    return result


def note_shared_groups(images: Iterable[Any], notes: Findings) -> None:
    """Counts groups that have images in training and in another split, which makes results too good.

    Args:
        images: images with the attributes `group` and `split`.
        notes: receives the names of the groups.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for image in images:
        splits[image.group].add(image.split)
    for group in sorted(group for group, names in splits.items() if group and len(names) > 1 and 'train' in names):
        notes.add('groups with images in training and in another split, so that results are too good', group)


def split_in_path(file_name: str) -> str:
    """Returns the split that a folder of a path names; '' if there is none or there are several."""
    splits = {SPLIT_NAMES[part] for part in re.split(r'[/\\]', os.path.dirname(file_name).lower()) if
              part in SPLIT_NAMES}
    # Cut years and versions, such as train2017.
    splits = splits or {SPLIT_NAMES[match[1]] for part in re.split(r'[/\\]', os.path.dirname(file_name).lower())
                        if (match := re.fullmatch(r'([a-z]+?)[_-]?\d{4}', part)) and match[1] in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ''
