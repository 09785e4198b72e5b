"""Class folders with splits of any place, and CSV lists of classes."""
from pathlib import Path

import pytest
from helpers.layouts import scene
from helpers.small_sets import write_image

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.class_lists import check_classes, columns_text, find_class_images


@pytest.mark.parametrize(('pattern', 'split'), [
    ('{name}/{i}.png', ''), ('Training/{name}/{i}.png', 'train'), ('{name}/valid/{i}.png', 'val'),
    ('{name}/deep/{i}.png', '')])
def test_first_folder_that_is_no_split_is_the_class(tmp_path: Path, pattern: str, split: str) -> None:
    for name in ('cat', 'dog'):
        write_image(tmp_path / pattern.format(name=name, i=1))
    found = find_class_images(tmp_path)
    assert found.names == ['cat', 'dog']
    assert {image.split for image in found.images} == {split}


@pytest.mark.parametrize(('images', 'maps', 'words'), [
    ('images/training', 'annotations/training', '2 label maps are JPEG, such as annotations/training/1.jpg of'),
    ('train_images', 'train_masks', '2 label maps are JPEG'),
    ('JPEGImages', 'SegmentationClass', '2 label maps are JPEG')])
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_folders_of_images_and_label_maps_are_no_classes(
        tmp_path: Path, images: str, maps: str, words: str, suffix: str) -> None:
    for name in '12':
        write_image(tmp_path / images / f'{name}.jpg')
        write_image(tmp_path / maps / f'{name}.{suffix}')
        write_image(tmp_path / f'other/{name}.png')
    with pytest.raises(DataError, match=words if suffix == 'jpg' else 'has images and label maps, such as'):
        find_class_images(tmp_path)


@pytest.mark.parametrize('names', [('mask', 'no_mask'), ('label', 'target'), ('images', 'dog')])
def test_classes_with_words_of_label_maps_are_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        write_image(tmp_path / name / '1.jpg')
    found = find_class_images(tmp_path)
    assert found.names == sorted(names)
    assert f'of 2 classes ({", ".join(sorted(names))})' in found.lines()[0]


def test_csv_names_classes_splits_and_groups(tmp_path: Path) -> None:
    for name in 'abc':
        write_image(tmp_path / f'images/{name}.png')
    (tmp_path / 'labels.csv').write_text('filename,label,split,group\na.png,cat,train,1\nb,dog,valid,2\n')
    found = find_class_images(tmp_path)
    assert [tuple(image) for image in found.images] == [('images/a.png', 'cat', 'train', '1'),
                                                        ('images/b.png', 'dog', 'val', '2')]
    assert any('images that no CSV file names: 1' in line for line in found.lines())
    (tmp_path / 'labels.csv').write_text('filename,label,split,group\na.png,cat,train,1\nb,dog,valid,1\n')
    assert any('results are too good: 1 (1)' in line for line in find_class_images(tmp_path).lines())
    (tmp_path / 'labels.csv').write_text('filename,label\na.png,cat\na.png,dog\n')
    with pytest.raises(DataError, match=r'line 3: images/a\.png is listed with another class'):
        find_class_images(tmp_path)
    (tmp_path / 'labels.csv').write_text('filename,label\na.png,\n')
    with pytest.raises(DataError, match='line 2: the class is'):
        find_class_images(tmp_path)


@pytest.mark.parametrize('text', ['filename, cat, dog\na.png, 1, 0\nb.png, 0, 1\n',
                                  'image,cat,dog\na,1.0,0.0\nb,0.0,1.0\n'])
def test_csv_with_a_column_of_marks_per_class(tmp_path: Path, text: str) -> None:
    for name in ('a.png', 'b.png'):
        scene(tmp_path / 'train' / name, (20, 20))
    (tmp_path / 'train/_classes.csv').write_text(text)
    found = find_class_images(tmp_path)
    assert found is not None
    assert [(image.image, image.name, image.split) for image in found.images] == [
        ('train/a.png', 'cat', 'train'), ('train/b.png', 'dog', 'train')]
    (tmp_path / 'train/_classes.csv').write_text(text + 'c.png, 1, 1\n' * 300)
    scene(tmp_path / 'train/c.png', (20, 20))
    assert find_class_images(tmp_path) is None
    lines = 'filename,cat,dog\n' + 'a.png,1,0\n' * 300
    for row, message in (('b.png,1,1', r'line 302: 2 classes are marked by 1 \(cat, dog\), expected one'),
                         ('b.png,1', 'line 302: expected the name of an image, and 0 or 1 for each of the 2 classes')):
        (tmp_path / 'train/_classes.csv').write_text(lines + row)
        with pytest.raises(DataError, match=message):
            find_class_images(tmp_path)


def test_images_without_classes_are_none(tmp_path: Path) -> None:
    write_image(tmp_path / 'train/1.png')
    assert find_class_images(tmp_path) is None


@pytest.mark.parametrize('columns', ['x,y,width,height', 'x_center,y_center,width,height', 'xmin,ymin,width,height',
                                     'bbox'])
def test_boxes_that_are_not_corners_are_refused_not_dropped(tmp_path: Path, columns: str) -> None:
    write_image(tmp_path / 'images/a.png')
    values = ','.join('3' for _ in columns.split(','))
    (tmp_path / 'labels.csv').write_text(f'filename,{columns},label\na.png,{values},cat\n')
    with pytest.raises(DataError, match=r'its columns are filename, .*; expected .* xmin, ymin, xmax, ymax and class'):
        find_class_images(tmp_path)


@pytest.mark.parametrize('columns', ['width,height', 'x,y'])
def test_sizes_and_positions_of_images_are_no_boxes(tmp_path: Path, columns: str) -> None:
    write_image(tmp_path / 'images/a.png')
    (tmp_path / 'labels.csv').write_text(f'filename,{columns},label\na.png,40,30,cat\n')
    assert find_class_images(tmp_path).names == ['cat']


def test_class_folders_are_read_next_to_a_table_of_boxes(tmp_path: Path) -> None:
    for name in ('cat', 'dog'):
        write_image(tmp_path / name / 'a.png')
    (tmp_path / 'boxes.csv').write_text('filename,x,y,width,height,label\na.png,1,1,5,5,cat\n')
    assert find_class_images(tmp_path).names == ['cat', 'dog']


def test_classes_of_validation_in_another_case_are_named(tmp_path: Path) -> None:
    for name in ('train/cat', 'train/dog', 'val/Cat', 'val/dog'):
        write_image(tmp_path / name / 'a.png')
    with pytest.raises(DataError, match='Cat and cat differ only in upper and lower case'):
        check_classes(find_class_images(tmp_path))


def test_many_and_long_columns_are_shortened() -> None:
    assert columns_text([]) == 'empty'
    assert columns_text(['a', 'b']) == 'a, b'
    assert columns_text(['x' * 1000] * 100) == ', '.join(['x' * 40] * 12) + ', ...'
