"""Create ML: boxes with centers, and faults."""
import json
from pathlib import Path

import pytest
from helpers.layouts import expected, objects_of, scene, write_createml

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import createml
from mae_backbone.formats.layouts.registry import find_layout

BOX = dict(x=20, y=20, width=10, height=8)


def entry(name: str = 'a.png', **labeled: object) -> dict:
    return dict(image=name, annotations=[dict(label='red', coordinates=BOX) | labeled])


def test_boxes_are_centers_and_sizes(tmp_path: Path) -> None:
    write_createml(tmp_path)
    assert find_layout(tmp_path) is createml.LAYOUT
    assert objects_of(createml.read(tmp_path)) == expected()


@pytest.mark.parametrize(('entries', 'message'), [
    ([entry(), entry()], r'image 2: a\.png is listed before'),
    ([entry('b.png')], "image 1: 'b.png' is no image below"),
    ([entry(), dict(image='b.png')], 'image 2 is .*, expected {"image": '),
    ([entry(), 3], 'image 2 is .3., expected {"image": '),
    ([entry(label='')], 'image 1: an object is .*, expected {"image": '),
    ([entry(coordinates=dict(x=1, y=1, width=2))], 'image 1: an object is .*, expected {"image": '),
    ([entry(coordinates=BOX | dict(x='left'))], "image 1: x is 'left', expected a number in pixels")])
def test_faulty_entry_is_named(tmp_path: Path, entries: list, message: str) -> None:
    scene(tmp_path / 'a.png', (60, 50))
    (tmp_path / 'labels.json').write_text(json.dumps(entries))
    with pytest.raises(DataError, match=message):
        createml.read(tmp_path)
