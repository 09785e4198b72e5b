"""Contradictions inside annotation files: many are refused with their likely cause, a few are named."""
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import coco_config, write_coco
from pycocotools import mask as coco_rle

from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.dataset_spec import DataError, dataset_specs

BOXES = [[2, 3, 8, 5], [20, 4, 9, 12], [5, 18, 12, 8], [28, 20, 10, 9]]  # in an image of 40 x 30


def annotation(number: int, box: list, **more) -> dict:
    x, y, w, h = box
    return dict(id=number, image_id=1, category_id=7, bbox=list(box), area=w * h, iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]) | more


def content_of(annotations: list[dict]) -> dict:
    return dict(images=[dict(id=1, file_name='a.png', width=40, height=30)], annotations=annotations,
                categories=[dict(id=7, name='cell')])


def check(root: Path, annotations: list[dict], *, masks: bool = True) -> list[str]:
    write_coco(root, content_of(annotations))
    spec, = dataset_specs(coco_config(root), 'train')
    spec.cfg.metainfo = dict(classes=('cell',))
    return CocoFormat(spec).check(masks=masks, labels=True)


def as_rle(entry: dict) -> None:
    x, y, w, h = entry['bbox']
    mask = np.zeros((30, 40), np.uint8, order='F')
    mask[y:y + h, x:x + w] = 1
    rle = coco_rle.encode(mask)
    entry['segmentation'] = dict(size=rle['size'], counts=rle['counts'].decode())


def as_relative_mask(entry: dict) -> None:
    entry['segmentation'] = [[v / (30 if i % 2 else 40) for i, v in enumerate(entry['segmentation'][0])]]


def as_swapped_mask(entry: dict) -> None:
    entry['segmentation'] = [np.reshape(entry['segmentation'][0], (-1, 2))[:, ::-1].ravel().tolist()]


def as_shifted_mask(entry: dict) -> None:
    entry['segmentation'] = [[v + 11 for v in entry['segmentation'][0]]]


def as_corners(entry: dict) -> None:
    x, y, w, h = entry['bbox']
    entry['bbox'] = [x, y, x + w, y + h]


def as_center(entry: dict) -> None:
    x, y, w, h = entry['bbox']
    entry['bbox'] = [x + w / 2, y + h / 2, w, h]


CHANGES = {
    as_relative_mask: 'segmentation seems to be relative to the size of the image: multiply',
    as_swapped_mask: 'segmentation seems to be y, x, y, x',
    as_shifted_mask: 'segmentation has the size of the box at another place',
    as_corners: 'bbox seems to be x1, y1, x2, y2: write x, y, width, height',
    as_center: 'bbox seems to be the center and the size',
}


@pytest.mark.parametrize('change', [lambda entry: None, as_rle])
def test_consistent_files_pass(tmp_path: Path, change: Callable[[dict], None]) -> None:
    annotations = [annotation(i, box) for i, box in enumerate(BOXES, start=1)]
    for entry in annotations:
        change(entry)
    assert check(tmp_path, annotations) == ['train: 1 images, 4 boxes of 1 class']


@pytest.mark.parametrize('change', CHANGES)
def test_masks_that_do_not_fit_their_boxes_are_refused_with_the_cause(tmp_path: Path, change: Callable) -> None:
    annotations = [annotation(i, box) for i, box in enumerate(BOXES, start=1)]
    for entry in annotations:
        change(entry)
    with pytest.raises(DataError, match='objects have a segmentation that does not fit their bbox') as caught:
        check(tmp_path, annotations)
    assert CHANGES[change] in str(caught.value)
    assert re.search(r'\(id \d, \d, \d', str(caught.value))
    if 'mask' in change.__name__:  # a detector of boxes does not read masks
        assert 'does not fit their bbox' in check(tmp_path, annotations, masks=False)[-1]


def test_few_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    annotations = [annotation(i, [i, i, 9, 9]) for i in range(1, 15)]
    as_swapped_mask(annotations[2])
    annotations[2]['segmentation'] = [[30, 20, 39, 20, 39, 29]]
    assert check(tmp_path, annotations)[-1] == (
        'train: 1 objects have a segmentation that does not fit their bbox (id 3)')


def test_boxes_as_corners_are_refused_without_masks(tmp_path: Path) -> None:
    annotations = [annotation(i, box, segmentation=[]) for i, box in enumerate([*BOXES, [25, 15, 12, 12]], start=1)]
    for entry in annotations:
        as_corners(entry)
    with pytest.raises(DataError, match='bbox seems to be x1, y1, x2, y2'):
        check(tmp_path, annotations, masks=False)


def test_relative_boxes_are_refused(tmp_path: Path) -> None:
    annotations = [annotation(i, [x / 40, y / 30, w / 40, h / 30]) for i, (x, y, w, h) in enumerate(BOXES, start=1)]
    with pytest.raises(DataError, match='fractions of the image size: write x, y, width, height in pixels'):
        check(tmp_path, annotations, masks=False)


@pytest.mark.parametrize('count', [1, 4])
def test_areas_larger_than_the_box_are_named_or_refused(tmp_path: Path, count: int) -> None:
    annotations = [annotation(i, box) for i, box in enumerate(BOXES, start=1)]
    for entry in annotations[:count]:
        entry['area'] *= 9
    if count == 1:
        assert check(tmp_path, annotations)[-1] == 'train: 1 objects have an area that is larger than their box (id 1)'
    else:
        with pytest.raises(DataError, match='4 of 4 objects have an area that is larger than their box'):
            check(tmp_path, annotations)


@pytest.mark.parametrize('count', [1, 4])
def test_repeated_objects_are_named_or_refused(tmp_path: Path, count: int) -> None:
    annotations = [annotation(i, box) for i, box in enumerate(BOXES, start=1)]
    annotations += [dict(entry, id=entry['id'] + 1000) for entry in annotations[:count]]
    if count == 1:
        assert check(tmp_path, annotations)[-1].endswith('have the same image, category and bbox as another one '
                                                         '(id 1001)')
    else:
        with pytest.raises(DataError, match=r'4 of 8 objects .*\(id 1001, .*the file seems to list objects twice'):
            check(tmp_path, annotations)


def test_names_of_several_categories_are_refused_with_their_ids(tmp_path: Path) -> None:
    content = content_of([annotation(1, BOXES[0])])
    content['categories'].append(dict(id=9, name='cell'))
    write_coco(tmp_path, content)
    spec, = dataset_specs(coco_config(tmp_path), 'train')
    with pytest.raises(DataError, match="'cell' with the ids 7 and 9"):
        CocoFormat(spec).classes()


def test_crowds_only_are_refused(tmp_path: Path) -> None:
    annotations = [annotation(i, box, iscrowd=1) for i, box in enumerate(BOXES, start=1)]
    with pytest.raises(DataError, match='all 4 annotations of cell have iscrowd=1'):
        check(tmp_path, annotations)


def test_class_of_crowds_only_is_a_class_without_boxes(tmp_path: Path) -> None:
    content = content_of([annotation(1, BOXES[0]), annotation(2, BOXES[1], category_id=9, iscrowd=1)])
    content['categories'].append(dict(id=9, name='heap'))
    write_coco(tmp_path, content)
    spec, = dataset_specs(coco_config(tmp_path), 'train')
    spec.cfg.metainfo = dict(classes=('cell', 'heap'))
    assert 'train: classes without a box (heap): 1' in CocoFormat(spec).check(masks=True, labels=True)
