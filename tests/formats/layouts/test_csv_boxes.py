"""CSV lists of boxes: columns, splits and faults."""
from pathlib import Path

import pytest
from helpers.layouts import expected, objects_of, scene, write_csv

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import csv_boxes
from mae_backbone.formats.layouts.csv_boxes import header_of
from mae_backbone.formats.layouts.registry import find_layout


@pytest.mark.parametrize('header', ['filename,xmin,ymin,xmax,ymax,label', 'path,xmin,ymin,xmax,ymax,class',
                                    'filename,width,height,class,xmin,ymin,xmax,ymax'])
def test_reads_columns_by_their_names(tmp_path: Path, header: str) -> None:
    write_csv(tmp_path, header)
    assert find_layout(tmp_path) is csv_boxes.LAYOUT
    boxes = {name: objects for name, objects in expected().items() if objects}  # background has no line
    assert objects_of(csv_boxes.read(tmp_path)) == boxes


def test_boxes_without_a_class_are_of_one_class(tmp_path: Path) -> None:
    scene(tmp_path / 'a.png', (20, 20))
    (tmp_path / 'boxes.csv').write_text('image,xmin,ymin,xmax,ymax\na.png,1,2,5,6\n')
    labeled = csv_boxes.read(tmp_path)
    assert objects_of(labeled) == {'/a.png': [('object', (1, 2, 4, 4))]}
    assert 'boxes without a column of the class, which are of the class object' in labeled.notes.lines()[0]
    (tmp_path / 'boxes.csv').write_text('image,xmin,ymin,xmax,ymax,species\na.png,1,2,5,6,newt\n')
    assert find_layout(tmp_path) is None  # the class has an unknown name


def test_file_with_an_endless_name_in_its_header_is_not_csv(tmp_path: Path) -> None:
    assert header_of(['x' * 200_000 + ',label']) == []
    (tmp_path / 'notes.csv').write_text('x' * 200_000)
    assert find_layout(tmp_path) is None


def test_columns_of_split_and_group_and_lines_without_box(tmp_path: Path) -> None:
    for name in ('a.png', 'b.png'):
        scene(tmp_path / 'images' / name, (20, 20))
    (tmp_path / 'labels.csv').write_text('image;x1;y1;x2;y2;class;split;patient\na;1;2;5;6;red;train;p1\n'
                                         'b.png;;;;;;validation;p2\n')
    labeled = csv_boxes.read(tmp_path)
    assert [(image.split, image.group, len(image.objects)) for image in labeled.images] == [
        ('train', 'p1', 1), ('val', 'p2', 0)]
    assert not labeled.notes.lines()
    (tmp_path / 'labels.csv').write_text('image;x1;y1;x2;y2;class;split;patient\na;1;2;5;6;red;train;p1\n'
                                         'b.png;;;;;;validation;p1\n')
    assert 'results are too good: 1 (p1)' in csv_boxes.read(tmp_path).notes.lines()[0]


@pytest.mark.parametrize(('line', 'message'), [
    ('a.png,9,1,2,3,red', 'line 2: .*larger than the maximum'), ('a.png,1,1,x,3,red', "line 2: xmax is 'x'"),
    ('a.png,1,1', 'line 2 has 3 values, expected 6'), ('other.png,1,1,2,3,red', "line 2: 'other.png' is no image"),
    ('a.png,1,1,2,3,', 'line 2: the class is empty'), ('../../a.txt,1,1,2,3,red', 'is no image below')])
def test_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    scene(tmp_path / 'a.png', (20, 20))
    (tmp_path / 'labels.csv').write_text(f'filename,xmin,ymin,xmax,ymax,label\n{line}\n')
    with pytest.raises(DataError, match=message):
        csv_boxes.read(tmp_path)


def test_corners_between_0_and_1_are_fractions_of_the_image(tmp_path: Path) -> None:
    for folder, unit in (('pixels', (1, 1)), ('fractions', (60, 50))):
        scene(tmp_path / folder / 'a.png', (60, 50))
        (tmp_path / folder / 'labels.csv').write_text(
            'filename,xmin,ymin,xmax,ymax,label\n'
            f'a.png,{6 / unit[0]},{5 / unit[1]},{30 / unit[0]},{50 / unit[1]},red\n')
    pixels, fractions = (csv_boxes.read(tmp_path / folder) for folder in ('pixels', 'fractions'))
    assert objects_of(pixels) == objects_of(fractions) == {'/a.png': [('red', (6, 5, 24, 45))]}
    assert not pixels.notes.lines()
    assert 'read as fractions of the image: 1 (a.png)' in fractions.notes.lines()[0]


def test_file_of_keras_retinanet_without_a_header(tmp_path: Path) -> None:
    for name in ('a.png', 'b.png'):
        scene(tmp_path / 'images' / name, (60, 50))
    (tmp_path / 'annotations.csv').write_text(
        'images/a.png,6,5,30,50,red\nimages/a.png,1,2,3,4,blue\nimages/b.png,,,,,\n')
    assert find_layout(tmp_path) is csv_boxes.LAYOUT
    assert objects_of(csv_boxes.read(tmp_path)) == {
        '/a.png': [('red', (6, 5, 24, 45)), ('blue', (1, 2, 2, 2))], '/b.png': []}


def test_file_of_open_images_with_codes_and_groups(tmp_path: Path) -> None:
    scene(tmp_path / 'train/0a.jpg', (60, 50))
    (tmp_path / 'train-annotations-bbox.csv').write_text(
        'ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n'
        '0a,xclick,/m/01,1,0.1,0.5,0.1,1.0,0,0,0,0,0\n0a,xclick,/m/02,1,0.1,0.5,0.1,1.0,0,0,1,0,0\n')
    (tmp_path / 'class-descriptions-boxable.csv').write_text('/m/01,Tortoise\n/m/02,Fig\n')
    labeled = csv_boxes.read(tmp_path)
    assert [(entry.name, entry.box, entry.is_crowd) for entry in labeled.images[0].objects] == [
        ('Tortoise', (6, 5, 24, 45), False), ('Fig', (6, 5, 24, 45), True)]
    assert labeled.images[0].split == 'train'
