"""YOLO: boxes, polygons, data.yaml and faults."""
from pathlib import Path

import pytest
from helpers.layouts import expected, objects_of, write_yolo

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import yolo
from mae_backbone.formats.layouts.registry import find_layout

NAMES = 'names: [red, blue]\n'


@pytest.mark.parametrize('polygons', [False, True])
@pytest.mark.parametrize('yaml', [
    'path: .\ntrain: images/train\nval: images/val\nnames:\n  0: red\n  1: blue\n',
    'train: images/train\nval: images/val\nnames: {"1": blue, "0": red}\n',
    'train: ../train/images/../../images/train\nval: ../images/val\nnc: 2\n' + NAMES,  # as Roboflow writes
    'path: /content/sets/mine\ntrain: [images/train]\nval: images/val\n' + NAMES,      # of another machine
    'train: train.txt\nval: val.txt\n' + NAMES])
def test_reads_boxes_and_polygons(tmp_path: Path, polygons: bool, yaml: str) -> None:
    write_yolo(tmp_path, yaml=yaml, polygons=polygons)
    for split in ('train', 'val'):
        images = sorted((tmp_path / 'images' / split).iterdir())
        (tmp_path / f'{split}.txt').write_text(''.join(f'./{path.relative_to(tmp_path)}\n' for path in images))
    assert find_layout(tmp_path) is yolo.LAYOUT
    labeled = yolo.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert labeled.names == ['red', 'blue']
    masks = [labeled.segmentation for image in labeled.images for labeled in image.objects]
    assert all((mask is not None and len(mask[0]) == 6) == polygons for mask in masks)


def test_without_data_yaml_splits_and_names_come_from_folders_and_classes_txt(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / 'data.yaml').unlink()
    assert find_layout(tmp_path) is yolo.LAYOUT
    assert yolo.read(tmp_path).names == ['class 0', 'class 1']
    (tmp_path / 'classes.txt').write_text('red\nblue\n')
    assert objects_of(yolo.read(tmp_path)) == expected()


@pytest.mark.parametrize('folder', ['labels', 'labels/train'])
def test_names_of_labelimg_are_read_next_to_its_labels(tmp_path: Path, folder: str) -> None:
    write_yolo(tmp_path)
    (tmp_path / 'data.yaml').unlink()
    (tmp_path / folder / 'classes.txt').write_text('red\nblue\n')
    labeled = yolo.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert labeled.names == ['red', 'blue']
    assert not labeled.left_out.lines()
    if folder != 'labels':
        (tmp_path / 'labels/val/classes.txt').write_text('blue\nred\n')
        with pytest.raises(DataError, match=r'have different names of classes \(red, blue; blue, red\)'):
            yolo.read(tmp_path)


def test_folders_may_have_names_in_capitals_and_splits_only_for_labels(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / 'data.yaml').unlink()
    (tmp_path / 'classes.txt').write_text('red\nblue\n')
    (tmp_path / 'labels').rename(tmp_path / 'Labels')
    for path in sorted((tmp_path / 'images').glob('*/*')):
        path.rename(tmp_path / 'images' / path.name)
    (tmp_path / 'images').rename(tmp_path / 'Images')
    assert find_layout(tmp_path) is yolo.LAYOUT
    assert objects_of(yolo.read(tmp_path)) == expected()


def test_images_of_folders_without_labels_and_results_are_no_background(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / 'data.yaml').unlink()
    for name in ('new', 'runs/predict/images', 'runs/predict/labels'):
        (tmp_path / name).mkdir(parents=True)
    for name in ('new/x.jpg', 'runs/predict/images/y.jpg'):
        (tmp_path / name).write_bytes((tmp_path / 'images/val/c.JPG').read_bytes())
    (tmp_path / 'runs/predict/labels/y.txt').write_text('0 0.5 0.5 0.1 0.1')
    labeled = yolo.read(tmp_path)
    assert {image.file_name.split('/')[0] for image in labeled.images} == {'images'}
    assert '\n'.join(labeled.left_out.lines()) == (
        'images in folders without labels; if they are background, list the folder in a data.yaml: 1 (new/x.jpg)\n'
        'images in folders of results: 1 (runs/predict/images/y.jpg)')


def test_images_next_to_their_labels_in_the_root_are_read_and_results_are_not(tmp_path: Path) -> None:
    write_yolo(tmp_path / 'runs')
    (tmp_path / 'runs/data.yaml').unlink()
    for suffix, folder in (('jpg', 'images'), ('txt', 'labels')):
        (tmp_path / f'a b.{suffix}').write_bytes((tmp_path / 'runs' / folder / f'train/a b.{suffix}').read_bytes())
    assert [image.file_name for image in yolo.read(tmp_path).images] == ['a b.jpg']


@pytest.mark.parametrize(('line', 'message'), [
    ('7 0.5 0.5 0.1 0.1', r"a b\.txt, line 3: the class is '7', expected 0 to 1 \(red, blue\)"),
    ('0 0.5 0.5 0.1', r'line 3 has 3 numbers after the class'),
    ('0 a 0.5 0.1 0.1', r"line 3: a coordinate is 'a'"),
    ('0 0,5 0,5 0,1 0,1', r"a coordinate is '0,5', expected a fraction .* with a decimal point, such as 0\.5"),
    ('0 nan 0.5 0.1 0.1', r"line 3: a coordinate is 'nan'"),
    ('0 50 60 20 10', r'line 3: 50, 60, 20, \.\.\. are not in 0\.\.1'),
    ('-1 0.5 0.5 0.1 0.1', r"the class is '-1'")])
def test_faulty_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_yolo(tmp_path) / 'labels/train/a b.txt'
    path.write_text(path.read_text() + '\n' + line)
    with pytest.raises(DataError, match=message):
        yolo.read(tmp_path)


@pytest.mark.parametrize(('yaml', 'message'), [
    ('train: images/train\nnames: {1: red, 2: blue}', 'the keys of names are 1, 2, expected 0 to 1'),
    ('train: images/train\nnames: {"0": red, 0: blue}', 'the keys of names are 0, 0, expected 0 to 1'),
    ('train: images/train\nnc: 3\n' + NAMES, 'nc is 3, but names has 2'),
    ('train: images/train\nnames: [a, a]', 'names a more than once'),
    ('train: images/train\nnames: a', "names is 'a', expected a list"),
    ('train: images/other\n' + NAMES, 'names the folder images/other, which does not exist'),
    ('train: /etc/ssl\n' + NAMES, 'names /etc/ssl, which is outside of the data root'),
    ('train: images/train\nval: [images/val, images/train\n' + NAMES, r'data\.yaml, line \d+: not YAML'),
    ('train: images/train\nval: [images/val, images/train/a b.jpg]\n' + NAMES,
     r'names the file images/train/a b.jpg, expected a folder'),
    ('names: !!python/object/apply:os.system [ls]\ntrain: x', 'not YAML'),
    ('train: images/train\ntask: obb\n' + NAMES, 'oriented boxes')])
def test_faulty_data_yaml_is_named(tmp_path: Path, yaml: str, message: str) -> None:
    write_yolo(tmp_path, yaml=yaml)
    with pytest.raises(DataError, match=message):
        yolo.read(tmp_path)


def test_boxes_written_as_corners_are_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for file in tmp_path.glob('labels/*/*.txt'):
        lines = [line.split() for line in file.read_text().splitlines()]
        boxes = [(label, *map(float, values)) for label, *values in lines]
        file.write_text(''.join(f'{label} {x - w / 2} {y - h / 2} {x + w / 2} {y + h / 2}\n'
                                for label, x, y, w, h in boxes))
    with pytest.raises(DataError, match=r'written as two corners \(x1 y1 x2 y2\), expected center x, center y'):
        yolo.read(tmp_path)


def test_oriented_boxes_are_refused_and_quadrilaterals_are_polygons(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for path in tmp_path.glob('labels/*/*.txt'):
        path.write_text('')
    path = tmp_path / 'labels/val/c.txt'  # 45 x 45 pixels
    path.write_text('0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n')
    with pytest.raises(DataError, match='oriented boxes'):
        yolo.read(tmp_path)
    path.write_text('0 0.5 0.1 0.9 0.5 0.5 0.9 0.3 0.5\n')
    assert yolo.read(tmp_path).images[-1].objects[0].segmentation is not None


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    write_yolo(tmp_path, yaml='train: images/train\nval: images/val\nkpt_shape: [2, 3]\n' + NAMES)
    (tmp_path / 'labels/train/empty.txt').unlink()
    (tmp_path / 'labels/train/gone.txt').write_text('0 0.5 0.5 0.1 0.1')
    (tmp_path / 'labels/val/c.txt').write_text('0 0.5 0.5 0.1 0.1 0.2 0.2 2 0.4 0.4 2\n' * 2)
    (tmp_path / 'images/other.jpg').write_bytes((tmp_path / 'images/val/c.JPG').read_bytes())
    lines = '\n'.join(yolo.read(tmp_path).lines())
    for part in ('without a label file, which are background: 1', 'label files without an image: 1', 'keypoints',
                 'repeated lines: 1', 'images in no folder of data.yaml: 1 (images/other.jpg)'):
        assert part in lines


def test_labels_are_found_among_many_background_images(tmp_path: Path) -> None:
    labels = tmp_path / 'labels'
    labels.mkdir()
    for index in range(200):
        (labels / f'{index:03d}.txt').write_text('')
    assert not yolo.detect(tmp_path)
    for name in ('000', '199'):
        (labels / f'{name}.txt').write_text('0 0.5 0.5 0.1 0.1\n')
    assert yolo.detect(tmp_path)


def test_validation_set_of_training_images_counts_as_missing(tmp_path: Path) -> None:
    write_yolo(tmp_path, yaml='train: images\nval: images/val\n' + NAMES)
    labeled = yolo.read(tmp_path)
    assert labeled.splits == {'train'}
    assert any('counts as missing' in line for line in labeled.lines())


def test_object_that_reaches_out_of_the_image_is_not_called_pixels(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / 'labels/val/c.txt').write_text('0 0.5 1.02 0.1 0.1')
    with pytest.raises(DataError, match=r'c\.txt, line 1: .*the object reaches out of the image'):
        yolo.read(tmp_path)
