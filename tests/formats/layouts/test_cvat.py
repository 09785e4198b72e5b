"""CVAT for images: shapes, masks, groups and faults."""
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import expected, objects_of, write_cvat
from pycocotools import mask as coco_rle

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import cvat
from mae_backbone.formats.layouts.registry import find_layout


@pytest.mark.parametrize('polygons', [False, True])
def test_reads_boxes_and_polygons_in_the_order_of_the_classes(tmp_path: Path, polygons: bool) -> None:
    write_cvat(tmp_path, polygons=polygons, names=('tag', 'red', 'blue'))
    assert find_layout(tmp_path) is cvat.LAYOUT
    labeled = cvat.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert labeled.names == ['red', 'blue']


def test_mask_has_the_pixels_of_its_runs(tmp_path: Path) -> None:
    write_cvat(tmp_path, extra='<mask label="red" left="3" top="2" width="3" height="2" rle="1,2,1,1,1"/>')
    labeled = cvat.read(tmp_path).images[0].objects[-1]
    pixels = coco_rle.decode(labeled.segmentation)
    assert pixels.shape == (47, 61)
    assert np.argwhere(pixels).tolist() == [[2, 4], [2, 5], [3, 4]]
    assert labeled.box == (4, 2, 2, 2)


def test_rotated_box_is_a_polygon_and_other_shapes_are_counted(tmp_path: Path) -> None:
    write_cvat(tmp_path, extra='<box label="red" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90" occluded="1"/>'
                               '<ellipse label="red"/><polyline label="red"/><tag label="red"/>')
    labeled = cvat.read(tmp_path)
    assert labeled.images[0].objects[-1].box == pytest.approx((13, 7, 4, 10))
    text = '\n'.join(labeled.lines())
    for part in ('type ellipse: 4', 'type polyline: 4', 'type tag: 4', 'marks of occlusion: 4'):
        assert part in text


def test_shapes_of_a_group_are_one_object(tmp_path: Path) -> None:
    polygon = '<polygon label="red" points="{0},0;{0},9;9,9" group_id="3"/>'
    write_cvat(tmp_path, extra=polygon.format(1) + polygon.format(5))
    joined = cvat.read(tmp_path).images[0].objects[-1]
    assert len(joined.segmentation) == 2
    assert joined.box == (1, 0, 8, 9)


@pytest.mark.parametrize(('extra', 'message'), [
    ('<box label="red" xtl="9" ytl="1" xbr="2" ybr="3"/>', r'image a b\.jpg, shape 3 \(red\).*larger than the maximum'),
    ('<box xtl="1" ytl="1" xbr="2" ybr="3"/>', 'shape 3 has no label'),
    ('<polygon label="red" points="1,2;3,4"/>', 'is a polygon of 4 coordinates'),
    ('<polygon label="red" points="1,2;3,4;5,x"/>', "a coordinate of red is 'x'"),
    ('<mask label="red" left="60" top="2" width="3" height="2" rle="1,2,1,1,1"/>', 'does not fit the image of 61x47'),
    ('<mask label="red" left="3" top="2" width="3" height="2" rle="1,2"/>', 'with runs of 3 pixels does not fit')])
def test_faulty_shape_is_named(tmp_path: Path, extra: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cvat.read(write_cvat(tmp_path, extra=extra))


def test_missing_images_and_truncated_files_are_named(tmp_path: Path) -> None:
    path = write_cvat(tmp_path) / 'annotations.xml'
    (tmp_path / 'images/val/c.JPG').unlink()
    with pytest.raises(DataError, match=r'1 of 4 images of the XML file do not exist \(c\.JPG\).*Save images'):
        cvat.read(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r'annotations\.xml, line 1: not XML'):
        cvat.read(tmp_path)
