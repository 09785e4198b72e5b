"""The layout of a folder is recognized, and what is missing is said."""
import os
import shutil

import cv2
import numpy as np
import pytest
from helpers.layouts import write_voc, write_yolo
from helpers.own_sets import save, write_boxes, write_classes, write_images, write_maps

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.label_map_files import image_label_pairs
from mae_backbone.planning.find_data import find_data


def test_each_task_is_recognized(tmp_path):
    write_boxes(tmp_path / 'boxes')
    write_maps(tmp_path / 'maps')
    write_classes(tmp_path / 'classes')
    write_images(tmp_path / 'images')
    assert [find_data(tmp_path / name).task for name in ('boxes', 'maps', 'classes', 'images')] == [
        'detection', 'segmentation', 'classification', 'pretraining']
    assert [find_data(tmp_path / name, 'pretraining').task for name in ('boxes', 'maps')] == ['pretraining'] * 2


def test_images_of_coco_may_be_in_other_folders(tmp_path):
    write_boxes(tmp_path)
    (tmp_path / 'images').mkdir()
    for split in ('train', 'val'):
        (tmp_path / split).rename(tmp_path / 'images' / split)
    assert find_data(tmp_path).dataset('train')['data_prefix'] == {'img': 'images/train/'}
    (tmp_path / 'images/val').rename(tmp_path / 'pictures')
    assert find_data(tmp_path).dataset('val')['data_prefix'] == {'img': 'pictures/'}


def test_a_missing_validation_split_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write_boxes(tmp_path / 'boxes', train=10)
    (tmp_path / 'boxes/annotations/instances_val.json').unlink()
    write_classes(tmp_path / 'classes', train=10)
    shutil.rmtree(tmp_path / 'classes/val')
    for name, total, task in (('boxes', 10, 'detection'), ('classes', 30, 'classification')):
        data = find_data(tmp_path / name)
        counts = {split: len(data.image_paths(split)) for split in data.splits}
        assert (data.task, sum(counts.values())) == (task, total)
        assert 0 < counts['val'] < counts['train']
        assert any(line.startswith('split:') for line in data.notes)


def test_a_test_split_is_not_used_for_validation(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write_boxes(tmp_path / 'boxes', train=10)
    for name in ('annotations/instances_{}.json', '{}'):
        (tmp_path / 'boxes' / name.format('val')).rename(tmp_path / 'boxes' / name.format('test'))
    write_classes(tmp_path / 'classes', train=10)
    (tmp_path / 'classes/val').rename(tmp_path / 'classes/test')
    for name in ('boxes', 'classes'):
        data = find_data(tmp_path / name)
        assert not [path for split in data.splits for path in data.image_paths(split) if '/test/' in path]
        assert any(line.startswith('split: the data have no validation split') for line in data.notes)


def test_data_may_be_in_folders_around_them(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    roots = {task: tmp_path / task / 'archive' / 'data' for task in ('detection', 'segmentation', 'classification')}
    write_boxes(roots['detection'])
    write_maps(roots['segmentation'])
    write_classes(roots['classification'])
    for task, root in roots.items():
        (tmp_path / task / 'README.md').write_text('')
        (tmp_path / task / 'notes.txt').write_text('')
        (tmp_path / task / 'runs').mkdir()
        write_images(tmp_path / task, 2)  # pictures of results
        for folder in (root, root.parent, tmp_path / task):
            data = find_data(folder)
            assert (data.task, len(data.image_paths('train'))) == (task, len(find_data(root).image_paths('train')))
    write_images(tmp_path / 'images/archive', 3)
    assert find_data(tmp_path / 'images').task == 'pretraining'
    (tmp_path / 'images/archive/labels.jsonl').write_text('{}')
    assert 'labels.jsonl' in find_data(tmp_path / 'images').warnings[0]


def test_labels_in_one_of_the_folders_of_a_project_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write_yolo(tmp_path / 'project/data')
    write_images(tmp_path / 'project/tools', 3)
    for task in (None, 'detection'):
        data = find_data(tmp_path / 'project', task)
        assert data.task == 'detection'
        assert len(data.image_paths('train')) == len(find_data(tmp_path / 'project/data').image_paths('train'))
        assert any(line.endswith('data is read: other folders have no labels (tools)') for line in data.notes)
    write_yolo(tmp_path / 'project/more')
    with pytest.raises(DataError, match=r'several of its folders have \(data, more\): pass one of them'):
        find_data(tmp_path / 'project')


def test_tables_next_to_class_folders_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    for name in ('Dataset', 'Pictures'):
        write_images(tmp_path / 'scans' / name, 4)
    (tmp_path / 'scans/Dataset/labels.csv').write_text('id,hemorrhage\n0,1\n')
    data = find_data(tmp_path / 'scans')
    assert data.task == 'classification'
    assert data.warnings[0].startswith('Dataset/labels.csv was not used: its columns are id, hemorrhage')


def test_labels_that_are_not_used_are_warned_of_once(tmp_path):
    write_images(tmp_path / 'images', 3)
    (tmp_path / 'images/labels.csv').write_text('id,hemorrhage\n0,1\n')
    assert len(find_data(tmp_path).warnings) == 1


def test_folders_that_are_no_classes_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    for name in ('cat', 'docs'):
        write_images(tmp_path / name, 3)
    data = find_data(tmp_path)
    assert data.task == 'pretraining'
    assert 'the folders cat, docs were not used as classes, because folders of results' in data.warnings[-1]


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_link_to_the_folder_around_it_ends_with_a_message(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path)
    with pytest.raises(DataError, match='has no data for any task'):
        find_data(tmp_path)


@pytest.mark.parametrize('kind', ['boxes', 'maps', 'classes'])
def test_data_with_only_a_validation_split_are_not_trained_on(tmp_path, monkeypatch, kind):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    if kind == 'boxes':
        write_boxes(tmp_path / 'data')
        (tmp_path / 'data/annotations/instances_train.json').unlink()
    elif kind == 'classes':
        shutil.rmtree(write_classes(tmp_path / 'data') / 'train')
    else:
        write_maps(tmp_path / 'data')
        for name in ('images', 'annotations'):
            shutil.rmtree(tmp_path / f'data/{name}/training')
    with pytest.raises(DataError, match='has a validation split, and no images for training'):
        find_data(tmp_path / 'data')


def test_annotation_files_that_are_not_read_are_warned_of(tmp_path):
    write_boxes(tmp_path)
    folder = tmp_path / 'annotations'
    for name in ('instances_train_2.json', 'instances_test.json', 'captions_train.json'):
        shutil.copy(folder / 'instances_val.json', folder / name)
    assert [warning.split('.json. ')[0] for warning in find_data(tmp_path).warnings] == [
        'train: of the annotation files, only instances_train.json is read, not instances_train_2']


def test_label_maps_of_any_naming(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write_maps(tmp_path / 'maps', train=10, val=1)
    (tmp_path / 'flat/images').mkdir(parents=True)
    (tmp_path / 'flat/masks').mkdir()
    for path in (tmp_path / 'maps/images/training').iterdir():
        path.rename(tmp_path / 'flat/images' / path.name)
    for path in (tmp_path / 'maps/annotations/training').iterdir():
        path.rename(tmp_path / 'flat/masks' / path.name)
    data = find_data(tmp_path / 'flat')
    assert (data.task, len(data.classes)) == ('segmentation', 3)
    assert len(data.image_paths('train')) + len(data.image_paths('val')) == 10
    assert len(data.splits['train'].label_maps()) == len(data.image_paths('train'))
    assert data.dataset('train')['data_prefix']['img_path'] == 'images/training'  # what training replaces


def test_missing_parts_are_named(tmp_path):
    write_maps(tmp_path / 'maps')
    (tmp_path / 'maps/classes.txt').unlink()
    with pytest.raises(DataError, match='does not exist: write the names'):
        find_data(tmp_path / 'maps')
    write_images(tmp_path / 'images')
    with pytest.raises(DataError, match='no data for detection: expected'):
        find_data(tmp_path / 'images', 'detection')
    with pytest.raises(DataError, match='does not exist'):
        find_data(tmp_path / 'nothing')
    with pytest.raises(ValueError, match="task 'boxes': expected one of pretraining"):
        find_data(tmp_path, 'boxes')
    write_classes(tmp_path / 'classes')
    with pytest.raises(DataError, match='already have a validation split'):
        find_data(tmp_path / 'classes', group_pattern='a')


def test_lost_images_are_named(tmp_path):
    write_boxes(tmp_path)
    (tmp_path / 'train/0001.png').unlink()
    with pytest.raises(DataError, match=r'images of another split have their names .*: copy the images to train'):
        find_data(tmp_path)
    (tmp_path / 'val/0001.png').unlink()
    with pytest.raises(DataError, match=r'do not exist below .*0001.png.*: copy them there'):
        find_data(tmp_path)


def test_images_of_another_machine_and_of_one_folder_are_found(tmp_path):
    write_boxes(tmp_path)
    file = tmp_path / 'annotations/instances_train.json'
    file.write_text(file.read_text().replace('"file_name": "', '"file_name": "/home/me/data/train/'))
    assert len(find_data(tmp_path).image_paths('train')) == 8
    for image in (tmp_path / 'val').iterdir():  # both files name images of one folder
        image.rename(tmp_path / 'train' / f'v{image.name}')
    file = tmp_path / 'annotations/instances_val.json'
    file.write_text(file.read_text().replace('"file_name": "', '"file_name": "v'))
    assert all('train/v' in path for path in find_data(tmp_path).image_paths('val'))


def test_layouts_of_other_programs_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    for name, write in (('voc', write_voc), ('yolo', write_yolo)):
        data = find_data(write(tmp_path / name))
        assert (data.task, sorted(data.classes), bool(data.written)) == ('detection', ['blue', 'red'], True)
        assert {split: len(data.image_paths(split)) for split in data.splits} == {'train': 3, 'val': 1}
        assert data.dataset('val')['ann_file'] == 'annotations/instances_val.json'  # not a file of the cache
        assert sum(len(boxes) for _, boxes in data.splits['train'].objects()) == 3


def test_labels_that_are_not_read_are_warned_of_unless_pretraining_is_chosen(tmp_path):
    write_images(tmp_path / 'images')
    (tmp_path / 'labels.csv').write_text('id,label\n0000,red\n')
    data = find_data(tmp_path)
    assert data.task == 'pretraining'
    assert 'its columns are id, label; expected filename and label' in data.warnings[0]
    assert find_data(tmp_path, 'pretraining').warnings == []
    with pytest.raises(DataError, match=r'no data for classification: .*its columns are id, label'):
        find_data(tmp_path, 'classification')


@pytest.mark.parametrize('names', ['', 'wall\ncrack\n'])
@pytest.mark.parametrize('splits', [('training', 'validation'), ('train', 'val')])
def test_masks_of_0_and_255_are_two_classes_also_in_folders_of_splits(tmp_path, splits: tuple[str, str], names: str):
    """As labels, 255 means pixels of no class: such masks were refused, but not without folders of splits."""
    for split in splits:
        for index in range(2):
            mask = np.zeros((48, 64), np.uint8)
            mask[:12] = 255
            save(tmp_path / 'images' / split / f'{split}{index}.png', np.zeros((48, 64, 3), np.uint8))
            save(tmp_path / 'annotations' / split / f'{split}{index}.png', mask)
    if names:
        (tmp_path / 'classes.txt').write_text(names)
    data = find_data(tmp_path)
    assert data.classes == (names.split() or ['background', 'foreground'])
    maps = [label_map for _, label_map in image_label_pairs(data.splits['val'].spec)]
    assert [np.bincount(cv2.imread(path, -1).ravel()).tolist() for path in maps] == [[36 * 64, 12 * 64]] * 2
