"""A plan is not made for data that the training refuses, and names labels that are not used."""
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.layouts import write_voc
from helpers.own_sets import write_boxes, write_classes, write_maps

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning.data_warnings import data_warnings
from mae_backbone.planning.find_data import find_data


def edit(root: Path, split: str, change) -> None:
    path = root / f'annotations/instances_{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def warnings_of(root: Path) -> list[str]:
    return data_warnings(find_data(root))


def test_good_data_have_no_warnings(tmp_path):
    write_boxes(tmp_path / 'masks')
    write_boxes(tmp_path / 'boxes', masks=False)
    write_maps(tmp_path / 'maps')
    write_classes(tmp_path / 'classes')
    for name in ('masks', 'boxes', 'maps', 'classes'):
        assert warnings_of(tmp_path / name) == []


def test_dark_images_that_the_plan_scales_are_not_warned_of(tmp_path, caplog):
    write_classes(tmp_path, train=2, val=1)
    for path in tmp_path.rglob('*.png'):
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 12)
    data = find_data(tmp_path)
    assert data_warnings(data) == []
    assert caplog.text == ''
    for data_format in find_data(tmp_path).splits.values():
        data_format.check(masks=False, labels=True)
    assert 'nearly black' in caplog.text, 'a training without scaling has the warning'


def test_class_names_in_another_case_are_refused(tmp_path):
    write_boxes(tmp_path)
    edit(tmp_path, 'val', lambda content: [category.update(name=category['name'].title())
                                           for category in content['categories']])
    with pytest.raises(DataError, match='Disc and disc, Square and square differ only in upper and lower case'):
        warnings_of(tmp_path)


@pytest.mark.parametrize('split', ['training', 'validation'])
def test_label_maps_of_another_size_are_refused(tmp_path, split):
    write_maps(tmp_path)
    path = str(tmp_path / f'annotations/{split}/0001.png')
    assert cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED)[::2, ::2])
    with pytest.raises(DataError, match='have another size than their image'):
        warnings_of(tmp_path)


def test_label_maps_that_cannot_be_read_are_named_instead_of_a_missing_class(tmp_path):
    write_maps(tmp_path)
    for path in tmp_path.glob('annotations/*/*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(path), np.stack([labels] * 2 + [labels, labels], axis=-1))
    with pytest.raises(DataError, match='cannot be read as one number per pixel'):
        warnings_of(tmp_path)


@pytest.mark.parametrize(('box', 'words'), [
    ([0.1, 0.1, 0.2, 0.2], 'They seem to be fractions of the image size'),
    ([500, 500, 9, 9], 'that can be used. Boxes without area, outside of their image')])
def test_a_set_whose_boxes_are_all_dropped_is_refused_with_the_cause(tmp_path, box, words):
    write_boxes(tmp_path, masks=False)
    for split in ('train', 'val'):
        edit(tmp_path, split, lambda content: [annotation.update(bbox=box) for annotation in content['annotations']])
    with pytest.raises(DataError, match=words):
        warnings_of(tmp_path)


def test_boxes_that_are_dropped_are_counted(tmp_path):
    write_boxes(tmp_path, masks=False)
    edit(tmp_path, 'train', lambda content: content['annotations'][0].update(bbox=[3, 3, 0, 5]))
    edit(tmp_path, 'train', lambda content: content['annotations'][1].update(bbox=[900, 3, 5, 5]))
    line, = warnings_of(tmp_path)
    assert line.startswith('train: boxes without area, outside of their image or marked "ignore", which are not used: '
                           '2 (in 0000.png)')


def test_classes_without_objects_in_training_are_named(tmp_path):
    write_boxes(tmp_path / 'boxes', classes=('disc', 'square', 'Disc'))
    edit(tmp_path / 'boxes', 'train', lambda content: [
        annotation.update(category_id=1) for annotation in content['annotations'] if annotation['category_id'] == 3])
    line, = warnings_of(tmp_path / 'boxes')
    assert line.startswith('classes without a box in the training set, which cannot be learned: 1 of 3 (Disc)')
    assert 'Disc and disc differ only in upper and lower case' in line


def test_boxes_of_classes_that_training_lacks_are_counted(tmp_path):
    write_boxes(tmp_path)

    def add(content: dict) -> None:
        content['categories'].append(dict(id=9, name='new'))
        content['annotations'][0]['category_id'] = 9
    edit(tmp_path, 'val', add)
    line, = warnings_of(tmp_path)
    assert 'val: boxes of classes that are not in the training set, which are not used: 1 (new: 1)' in line


def test_a_refusal_of_converted_labels_names_the_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    root = write_voc(tmp_path / 'voc')
    for path in root.rglob('*.xml'):
        path.write_text(re.sub(r'<(xmin|ymin|xmax|ymax)>[^<]*', r'<\1>0.5', path.read_text()))
    with pytest.raises(DataError, match=f'{root}, split train: all numbers of its boxes are between 0 and 1') as caught:
        warnings_of(root)
    assert 'cache' not in str(caught.value)
