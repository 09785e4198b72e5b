"""VIA: exports and projects of both versions, shapes, and the attribute with the class."""
import json
import math
import re
from pathlib import Path

import pytest
from helpers.layouts import expected, objects_of, scene, write_via
from helpers.layouts import via_region as region

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import via
from mae_backbone.formats.layouts.labeled_set import area
from mae_backbone.formats.layouts.registry import find_layout, read_layout


def write_regions(root: Path, *regions: dict) -> Path:
    scene(root / 'a.png', (60, 50))
    (root / 'via.json').write_text(json.dumps({'a.png1': dict(filename='a.png', size=1, regions=list(regions),
                                                              file_attributes={})}))
    return root


@pytest.mark.parametrize('style', ['version 1', 'version 2', 'project', 'checkboxes'])
def test_all_kinds_of_files_give_the_same_objects(tmp_path: Path, style: str) -> None:
    write_via(tmp_path, style)
    assert find_layout(tmp_path) is via.LAYOUT
    assert objects_of(via.read(tmp_path)) == expected()


def test_ellipses_become_polygons_of_their_size(tmp_path: Path) -> None:
    turned = dict(name='ellipse', cx=30, cy=25, rx=20, ry=10, theta=math.pi / 2)
    labeled = via.read(write_regions(tmp_path, region(dict(name='circle', cx=30, cy=25, r=10), label='a'),
                                     region(turned, label='a'), region(dict(name='point', cx=3, cy=2), label='a')))
    circle, ellipse = labeled.images[0].objects
    assert circle.box == pytest.approx((20, 15, 20, 20))
    assert ellipse.box == pytest.approx((20, 5, 20, 40))
    assert area(circle, (60, 50)) == pytest.approx(100 * math.pi, rel=0.01)
    assert area(ellipse, (60, 50)) == pytest.approx(200 * math.pi, rel=0.01)
    assert "shape point: 1" in labeled.left_out.lines()[0]


BOX = dict(name='rect', x=1, y=2, width=5, height=6)


@pytest.mark.parametrize(('attributes', 'names', 'note'), [
    ([{}, {}], ['object'], 'without an attribute for the class, which are read as object: 2'),
    ([dict(label='cat'), {}], ['cat'], 'which are read as cat: 1'),
    ([dict(insect='bee', inseto='bee'), dict(insect='fly')], ['bee', 'fly'], r'not read: 1 \(inseto\)'),
    ([dict(species='cat'), dict(species='dog')], ['cat', 'dog'], ''),
    ([dict(Class='cat', quality='good'), dict(Class='dog')], ['cat', 'dog'], r'not read: 1 \(quality\)')])
def test_the_attribute_with_the_class(tmp_path: Path, attributes: list[dict], names: list[str], note: str) -> None:
    labeled = via.read(write_regions(tmp_path, *(region(BOX, **entry) for entry in attributes)))
    assert labeled.names == names
    assert re.search(note, ' '.join(labeled.notes.lines()))


@pytest.mark.parametrize(('regions', 'message'), [
    ([region(BOX, species='cat', quality='good')], 'Rename the one with the class to label'),
    ([region(BOX, car='1'), region(BOX, truck='1')], 'Rename the one with the class to label'),
    ([region(BOX, label='cat'), region(BOX, label='dog'), region(BOX)],
     'region 3 has no label, which is the class of the other regions'),
    ([region(BOX, label=dict(cat=True, dog=True))], 'cat, dog are checked, expected one'),
    ([region(dict(name='rect', x=1), label='cat')], r'region 1 \(cat\): y is None'),
    ([region(dict(name='polygon', all_points_x=[1, 2], all_points_y=[1]), label='a')], 'two lists of the same length'),
    ([region(dict(name='polygon', all_points_x=[1, 2], all_points_y=[1, 3]), label='a')], 'a polygon of 2 points'),
    ([dict(shape_attributes=BOX)], 'region 1 has no shape_attributes or no region_attributes')])
def test_faulty_region_is_named(tmp_path: Path, regions: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=message):
        via.read(write_regions(tmp_path, *regions))


def test_missing_and_repeated_images_are_named(tmp_path: Path) -> None:
    write_regions(tmp_path, region(BOX, label='cat'))
    copy = (tmp_path / 'via.json').read_text()
    (tmp_path / 'copy.json').write_text(copy)
    labeled = via.read(tmp_path)
    assert len(labeled.images[0].objects) == 1
    assert 'in several files, with the same regions: 1 (a.png)' in labeled.notes.lines()[0]
    (tmp_path / 'copy.json').write_text(copy.replace('cat', 'dog'))
    with pytest.raises(DataError, match=r'a\.png is in this file twice, or in another file too, with other regions'):
        via.read(tmp_path)
    (tmp_path / 'copy.json').unlink()
    (tmp_path / 'a.png').rename(tmp_path / 'b.png')
    with pytest.raises(DataError, match=r"'a\.png' is no image below"):
        read_layout(tmp_path)
