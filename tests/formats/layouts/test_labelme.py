"""labelme and AnyLabeling: shapes, groups and faults."""
import base64
import io
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import Shape, expected, labelme_json, labelme_shape, objects_of, scene, write_labelme
from PIL import Image
from pycocotools import mask as coco_rle

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import labelme
from mae_backbone.formats.layouts.labeled_set import area
from mae_backbone.formats.layouts.registry import find_layout

SQUARE = Shape('red', (4, 6, 10, 10))


def write_one(root: Path, shapes: list[dict], **more) -> Path:
    scene(root / 'a.png', (60, 40))
    (root / 'a.json').write_text(labelme_json('a.png', (60, 40), shapes, **more))
    return root


@pytest.mark.parametrize('polygons', [False, True])
def test_reads_rectangles_and_polygons(tmp_path: Path, polygons: bool) -> None:
    write_labelme(tmp_path, polygons=polygons)
    assert find_layout(tmp_path) is labelme.LAYOUT
    labeled = labelme.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert all((item.segmentation is not None) == polygons for image in labeled.images for item in image.objects)


def test_file_with_a_large_image_inside_is_recognized(tmp_path: Path) -> None:
    write_one(tmp_path, [labelme_shape(SQUARE)])
    text = (tmp_path / 'a.json').read_text()
    (tmp_path / 'a.json').write_text(
        '{"imageData": "' + 'A' * 100_000 + '", "imagePath": "../elsewhere/x.png", ' + text[text.index('"version"'):])
    assert find_layout(tmp_path) is None  # its first 64 KB are the image
    (tmp_path / 'a.json').write_text(text.replace('"imageData": null', f'"imageData": "{"A" * 100_000}"'))
    assert find_layout(tmp_path) is labelme.LAYOUT
    assert len(labelme.read(tmp_path).images[0].objects) == 1


def test_circle_has_its_area_and_other_shapes_are_counted(tmp_path: Path) -> None:
    circle = dict(label='red', shape_type='circle', points=[[20, 20], [20, 30]])
    write_one(tmp_path, [circle, dict(label='red', shape_type='line', points=[[1, 1], [2, 2]])])
    labeled = labelme.read(tmp_path)
    round_object, = labeled.images[0].objects
    assert round_object.box == (10, 10, 20, 20)
    assert area(round_object, (60, 40)) == pytest.approx(np.pi * 100, rel=0.01)
    assert any('shapes of the type line: 1' in line for line in labeled.lines())


def test_polygons_of_a_group_are_one_object_and_rectangles_get_a_mask(tmp_path: Path) -> None:
    left, right = Shape('red', (0, 0, 10, 10), True), Shape('red', (30, 10, 10, 10), True)
    write_one(tmp_path, [labelme_shape(left, group_id=1), labelme_shape(right, group_id=1), labelme_shape(SQUARE)])
    rectangle, joined = labelme.read(tmp_path).images[0].objects
    assert joined.box == (0, 0, 40, 20)
    assert len(joined.segmentation) == 2
    assert area(rectangle, (60, 40)) == 100


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()


def mask(pixels: np.ndarray, corners: list[list[float]], **more) -> dict:
    return dict(label='red', shape_type='mask', points=corners, mask=png(pixels)) | more


def test_mask_is_the_picture_at_its_box(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((6, 9)) > 0.4
    pixels[0], pixels[:, 0] = True, True
    write_one(tmp_path, [mask(pixels, [[5, 7], [13, 12]]), labelme_shape(SQUARE)])
    labeled, square = labelme.read(tmp_path).images[0].objects
    whole = coco_rle.decode(labeled.segmentation)
    assert whole.shape == (40, 60)
    assert (whole[7:13, 5:14] == pixels).all()
    assert whole.sum() == pixels.sum() == area(labeled, (60, 40))
    assert labeled.box == (5, 7, 9, 6)
    assert square.segmentation is not None, 'a rectangle gets a mask'


def test_mask_in_a_group_and_an_empty_mask(tmp_path: Path) -> None:
    full, empty = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    write_one(tmp_path, [mask(full, [[0, 0], [1, 1]], group_id=1), mask(empty, [[3, 3], [4, 4]]),
                         labelme_shape(Shape('red', (20, 10, 10, 10), True), group_id=1)])
    labeled = labelme.read(tmp_path)
    assert [item.box for item in labeled.images[0].objects] == [(0, 0, 2, 2), (20, 10, 10, 10)]
    assert any('masks without a pixel: 1' in line for line in labeled.lines())


@pytest.mark.parametrize(('shape', 'message'), [
    (dict(mask='@@'), r'shape 1 \(red\): its mask is no PNG of 3x2 pixels in base64 \('),
    (dict(mask=None), 'its mask is no PNG of 3x2 pixels in base64, but None'),
    (dict(mask=base64.b64encode(b'GIF89a' + bytes(20)).decode()), 'no PNG of 3x2'),
    (dict(mask=png(np.ones((2, 3), bool))[:48]), 'no PNG of 3x2'),
    (dict(mask=png(np.ones((2000, 3), bool))), 'it has 3x2000'),
    (dict(points=[[1, 1]]), 'is a mask of 1 points, expected 2 corners'),
    (dict(points=[[58, 1], [60, 2]]), r'from 58, 1 to 60, 2 is not inside of the image of 60x40'),
    (dict(points=[[3, 1], [1, 2]]), 'is not inside'),
])
def test_faulty_mask_is_named(tmp_path: Path, shape: dict, message: str) -> None:
    write_one(tmp_path, [mask(np.ones((2, 3), bool), [[1, 1], [3, 2]]) | shape])
    with pytest.raises(DataError, match=message):
        labelme.read(tmp_path)


@pytest.mark.parametrize(('shapes', 'message'), [
    ([dict(label='', points=[])], r'a\.json, shape 1 has no label'),
    ([dict(label='red', points=[[1, 2]])], r'shape 1 \(red\) is a polygon of 1 points'),
    ([dict(label='red', points=[[1, 2], [1, 'x'], [3, 3]])], "a coordinate of red is 'x'"),
    ([dict(label='red', points='x')], 'points is .*expected a list')])
def test_faulty_shape_is_named(tmp_path: Path, shapes: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelme.read(write_one(tmp_path, shapes))


def test_damaged_file_and_missing_image_are_named(tmp_path: Path) -> None:
    path = write_one(tmp_path, [labelme_shape(SQUARE)]) / 'a.json'
    text = path.read_text()
    path.write_text(text[:-20])
    with pytest.raises(DataError, match=r'a\.json, line 1: not JSON'):
        labelme.read(tmp_path)
    path.write_text(text.replace('"imageWidth": 60', '"imageWidth": 61'))
    with pytest.raises(DataError, match=r'states 61x40 pixels, but a\.png has 60x40'):
        labelme.read(tmp_path)
    path.write_text(text.replace('"imageData": null', '"imageData": "AAAA"'))
    (tmp_path / 'a.png').rename(tmp_path / 'b.png')
    with pytest.raises(DataError, match=r'1 of 1 JSON files have no image .*labelme_export_json'):
        labelme.read(tmp_path)


def test_files_without_objects_are_named(tmp_path: Path) -> None:
    """A file without shapes is a background image if others have shapes."""
    write_one(tmp_path, [])
    with pytest.raises(DataError, match=r'none of the 1 JSON files of labelme has an object in its shapes \(a\.json\)'):
        labelme.read(tmp_path)
    write_one(tmp_path, [dict(label='red', shape_type='point', points=[[1, 2]])])
    with pytest.raises(DataError, match=r'Left out: shapes of the type point: 1 \(.*a\.json, shape 1\)'):
        labelme.read(tmp_path)
