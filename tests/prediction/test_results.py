"""Files of predictions."""
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from helpers.prediction_models import CLASSIFIER, DETECTOR, SEGMENTER
from helpers.small_sets import SIZES, coco_config, write_coco
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from mae_backbone.data.decode import read_image
from mae_backbone.prediction.results import JsonList, Results

NO_DATA = Config(dict(test_dataloader=None))


def loaded(folder: Path, name: str) -> object:
    return json.loads((folder / name).read_text())


def test_pycocotools_reads_results_with_ids_of_the_annotations(tmp_path):
    path = write_coco(tmp_path, split='val')
    with Results(tmp_path, DETECTOR, coco_config(tmp_path)) as results:
        assert 'annotations' in results.summary()
        for name, (width, height) in SIZES.items():
            results.add(DETECTOR(np.zeros((height, width, 3))), f'{name}.png', (height, width))
    with redirect_stdout(StringIO()):
        truth = COCO(str(path))
        found = truth.loadRes(str(tmp_path / 'predictions.json'))
    assert sorted(found.getImgIds()) == [1, 2, 3]
    one = found.loadAnns(found.getAnnIds(imgIds=[1]))[0]
    assert one['category_id'] == 7, 'the id that the annotations give to cells'
    assert one['bbox'] == [0, 0, 20, 15]
    mask = found.annToMask(one)
    assert mask.shape == (30, 40)
    assert mask.sum() == mask[:15, :20].sum() == 15 * 20
    about = loaded(tmp_path, 'images.json')
    assert about['images'][0] == dict(id=1, file_name='a.png', width=40, height=30)
    assert about['categories'] == [dict(id=3, name='nucleus'), dict(id=7, name='cell')]


def test_unknown_images_and_classes_get_new_ids(tmp_path):
    write_coco(tmp_path, split='val')
    with Results(tmp_path, DETECTOR, coco_config(tmp_path)) as results:
        for name in ('new.png', 'a.png', 'newer.png'):
            results.add(DETECTOR(np.zeros((8, 8, 3))), name, (8, 8))
    assert [image['id'] for image in loaded(tmp_path, 'images.json')['images']] == [4, 1, 5]
    with Results(tmp_path, DETECTOR, NO_DATA) as results:
        results.add(DETECTOR(np.zeros((8, 8, 3))), 'a.png', (8, 8))
    about = loaded(tmp_path, 'images.json')
    assert about['categories'] == [dict(id=1, name='nucleus'), dict(id=2, name='cell')]
    assert 'order of the classes' in about['numbered_by']


def test_images_that_the_annotations_do_not_have_are_counted(tmp_path):
    path = write_coco(tmp_path, split='val')
    with Results(tmp_path, DETECTOR, coco_config(tmp_path)) as results:
        results.add(DETECTOR(np.zeros((8, 8, 3))), 'a.png', (8, 8))
        assert results.new_ids() == ''
        for name in ('val/a.png', 'val/b.png'):  # the folder above the one of the annotations
            results.add(DETECTOR(np.zeros((8, 8, 3))), name, (8, 8))
    assert f'2 of 3 images are not in {path} and have new ids, from 4' in results.new_ids()
    assert 'such as a.png: to get its ids, pass the folder' in results.new_ids()
    with Results(tmp_path, DETECTOR, NO_DATA) as results:
        results.add(DETECTOR(np.zeros((8, 8, 3))), 'a.png', (8, 8))
    assert results.new_ids() == ''


def test_segmenter_writes_labels_with_palette_and_areas(tmp_path):
    image = np.zeros((6, 5, 3), np.uint8)
    labels = SEGMENTER(image)
    with Results(tmp_path, SEGMENTER, NO_DATA) as results:
        results.add(labels, 'b/a.jpg', image.shape[:2])
        results.add_figure(image, labels, Path('b/a'))
    stored = Image.open(tmp_path / 'labels' / 'b' / 'a.png')
    assert stored.mode == 'P'
    assert (np.array(stored) == labels).all()
    assert tuple(np.array(stored.convert('RGB'))[0, 1]) == SEGMENTER.colors[1]
    assert loaded(tmp_path, 'areas.json') == [
        dict(file_name='b/a.jpg', width=5, height=6, pixels=dict(sky=15, road=15), share=dict(sky=0.5, road=0.5))]
    assert read_image(tmp_path / 'b' / 'a.png').shape[0] >= 400


def test_classifier_writes_scores(tmp_path):
    image = np.zeros((6, 5, 3), np.uint8)
    with Results(tmp_path, CLASSIFIER, NO_DATA) as results:
        results.add(CLASSIFIER(image), 'a.jpg', image.shape[:2], frame=3)
    assert loaded(tmp_path, 'scores.json') == [
        {'file_name': 'a.jpg', 'width': 5, 'height': 6, 'frame': 3, 'class': 'dog',
         'scores': {'cat': 0.25, 'dog': 0.75}}]


def test_interruption_leaves_valid_files_with_results_so_far(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)

    def interrupted() -> None:
        with Results(tmp_path, DETECTOR, NO_DATA) as results:
            results.add(DETECTOR(image), 'a.png', (8, 8))
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(loaded(tmp_path, 'predictions.json')) == len(loaded(tmp_path, 'images.json')['images']) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images.json', 'predictions.json']


def test_list_is_renamed_when_complete(tmp_path):
    with JsonList(tmp_path / 'a.json') as entries:
        for number in range(3):
            entries.add({'n': number})
            assert not (tmp_path / 'a.json').exists()
    assert loaded(tmp_path, 'a.json') == [{'n': 0}, {'n': 1}, {'n': 2}]
    with JsonList(tmp_path / 'a.json'):
        pass
    assert loaded(tmp_path, 'a.json') == []
