"""Class folders with splits of any place, and CSV lists of classes."""
from pathlib import Path

import pytest
from helpers.small_sets import write_image

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.class_lists import find_class_images


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
    (tmp_path / 'labels.csv').write_text('filename,label\na.png,cat\na.png,dog\n')
    with pytest.raises(DataError, match=r'line 3: images/a\.png is listed with another class'):
        find_class_images(tmp_path)
    (tmp_path / 'labels.csv').write_text('filename,label\na.png,\n')
    with pytest.raises(DataError, match='line 2: the class is'):
        find_class_images(tmp_path)


def test_images_without_classes_are_none(tmp_path: Path) -> None:
    write_image(tmp_path / 'train/1.png')
    assert find_class_images(tmp_path) is None
