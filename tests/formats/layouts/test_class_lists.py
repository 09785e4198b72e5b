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
