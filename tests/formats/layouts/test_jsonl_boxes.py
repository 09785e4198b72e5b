"""JSON Lines of Hugging Face: boxes, classes as names and numbers, and faults."""
import json
from pathlib import Path

import pytest
from helpers.layouts import expected, objects_of, scene, write_jsonl

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import jsonl_boxes
from mae_backbone.formats.layouts.registry import find_layout


def write_lines(root: Path, *lines: object) -> Path:
    scene(root / 'a.png', (60, 50))
    (root / 'metadata.jsonl').write_text('\n'.join(line if isinstance(line, str) else json.dumps(line)
                                                   for line in lines))
    return root


def line(name: str = 'a.png', boxes: object = ((1, 2, 5, 6),), classes: object = ('red',)) -> dict:
    return dict(file_name=name, objects=dict(bbox=boxes, category=classes))


@pytest.mark.parametrize('style', ['names', 'numbers', 'list'])
def test_all_styles_give_the_same_objects(tmp_path: Path, style: str) -> None:
    write_jsonl(tmp_path, style)
    assert find_layout(tmp_path) is jsonl_boxes.LAYOUT
    assert objects_of(jsonl_boxes.read(tmp_path)) == expected()


def test_numbers_without_names_are_noted(tmp_path: Path) -> None:
    labeled = jsonl_boxes.read(write_lines(tmp_path, line(classes=[2])))
    assert labeled.names == ['class 0', 'class 1', 'class 2']
    assert 'write a classes.txt' in labeled.notes.lines()[0]


@pytest.mark.parametrize(('lines', 'message'), [
    ([line(), '{"file_name": "b.png", "objects"'], 'line 2: not JSON'),
    ([line(), dict(objects={})], 'line 2 has no file_name'),
    ([line(), line()], r'line 2: a\.png is also in .*line 1'),
    ([line('b.png')], "line 1: 'b.png' is no image below"),
    ([line(classes=['red', 'red'])], 'not lists of the same length'),
    ([line(boxes=[[1, 2, 3]])], r'a box is .\[1, 2, 3\].*, expected \[x, y, width, height\]'),
    ([line(boxes=[[1, 2, 3, 'x']])], "a number of a box is 'x'"),
    ([line(classes=[-1])], 'a class is -1, expected a name or a number from 0'),
    ([line(boxes=[[1, 2, 5, 6]] * 2, classes=['red', 1])], 'some classes are names and some are numbers'),
    ([dict(file_name='a.png', objects=dict(bbox=[[1, 2, 3, 4]]))], 'objects is '),
    ([dict(file_name='a.png', objects=[dict(bbox=[1, 2, 3, 4], label=0), dict(bbox=[1, 2, 3, 4])])],
     'some of the objects have no bbox or no label')])
def test_faulty_line_is_named(tmp_path: Path, lines: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        jsonl_boxes.read(write_lines(tmp_path, *lines))


def test_more_classes_than_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'classes.txt').write_text('red\n')
    with pytest.raises(DataError, match='names 1 classes, but there is an object of class 1'):
        jsonl_boxes.read(write_lines(tmp_path, line(classes=[1])))
