"""Classes and splits of images from the names of their folders."""
import pytest

from mae_backbone.formats.layouts.class_tree import classes_of_folders


@pytest.mark.parametrize('pattern', [
    '{split}/{name}', '{name}/{split}', 'dataset/{split}/{name}', 'a/b/{split}/{name}', '{split}/images/{name}',
    'seg_{split}/seg_{split}/{name}', '{split}ing_set/{split}ing_set/{name}', 'images/{split}_images/{name}',
    '{split}-data/{name}', '{split}2017/{name}', '{split}/{name}/deep'])
def test_splits_and_shared_folders_are_no_classes(pattern: str) -> None:
    expected = {f'{pattern.format(split=split, name=name)}/1.jpg': (name, split) for split in ('train', 'test')
                for name in ('cat', 'dog')}
    assert classes_of_folders(expected) == expected


@pytest.mark.parametrize('pattern', ['{name}', 'raw-img/{name}', 'a/b/{name}', '{name}/images'])
def test_classes_without_splits_may_be_in_shared_folders(pattern: str) -> None:
    expected = {f'{pattern.format(name=name)}/1.jpg': (name, '') for name in ('cat', 'dog')}
    assert classes_of_folders(expected) == expected


def test_names_of_classes_may_have_words_of_splits() -> None:
    expected = {f'{name}/1.jpg': (name, '') for name in ('train station', 'test_tube', 'bullet-train', 'dog')}
    assert classes_of_folders(expected) == expected


def test_a_folder_next_to_splits_is_a_class_that_training_lacks() -> None:
    found = classes_of_folders(['seg_train/seg_train/cat/1.jpg', 'seg_test/seg_test/cat/2.jpg',
                                'seg_pred/seg_pred/3.jpg'])
    assert found['seg_pred/seg_pred/3.jpg'] == ('seg_pred', '')


def test_images_in_no_folder_have_no_class() -> None:
    assert classes_of_folders(['1.jpg', 'train/2.jpg', 'val/3.jpg', 'cat/4.jpg']) == {
        '1.jpg': ('', ''), 'train/2.jpg': ('', 'train'), 'val/3.jpg': ('', 'val'), 'cat/4.jpg': ('cat', '')}


def test_images_next_to_the_data_of_a_project_have_no_class() -> None:
    data = {f'dataset/{split}/{name}/1.jpg': (name, split) for split in ('train', 'val') for name in ('cat', 'dog')}
    others = ['result.jpg', 'runs/classify/train2/batch.jpg', 'testimages/2.jpg']
    assert classes_of_folders([*data, *others]) == data | dict.fromkeys(others, ('', ''))


@pytest.mark.parametrize('others', [['docs/1.jpg'], ['results/run/1.jpg', 'Assets/logo.png']])
def test_folders_of_results_and_documents_are_no_classes(others: list[str]) -> None:
    data = {f'{name}/1.jpg': (name, '') for name in ('cat', 'dog')}
    assert classes_of_folders([*data, *others]) == data | dict.fromkeys(others, ('', ''))
    inner = {f'archive/{name}': found for name, found in (data | dict.fromkeys(others, ('', ''))).items()}
    assert classes_of_folders(inner) == inner


def test_data_in_a_folder_named_output_have_classes() -> None:
    expected = {f'output/{split}/{name}/1.jpg': (name, split) for split in ('train', 'val') for name in ('cat', 'dog')}
    assert classes_of_folders(expected) == expected
    assert classes_of_folders([*expected, 'docs/1.jpg']) == expected | {'docs/1.jpg': ('', '')}
