"""labelme and AnyLabeling: shapes, groups and faults."""
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import Shape, expected, labelme_json, labelme_shape, objects_of, scene, write_labelme

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
