"""Answers: figure, legend and files follow the threshold and agree with each other."""
import csv
import io
import json

import numpy as np
import pytest
from helpers.prediction_models import CLASSIFIER, DETECTOR, SEGMENTER
from PIL import Image
from pycocotools.coco import COCO

from mae_backbone.demo import answers
from mae_backbone.demo.answers import ClassificationAnswer, DetectionAnswer, SegmentationAnswer, shortened, to_csv
from mae_backbone.prediction.inputs import Source
from mae_backbone.prediction.typed_results import to_result

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def result_of(predictor):
    return to_result(predictor.predict(IMAGE), predictor.task, Source(IMAGE), (40, 60), predictor.classes,
                     predictor.colors)


@pytest.fixture
def detection():
    return DetectionAnswer(IMAGE, 'a.png', result_of(DETECTOR), [7, 2])


@pytest.fixture
def segmentation():
    confidence = np.linspace(0, 1, 40 * 60, dtype=np.float32).reshape(40, 60)
    return SegmentationAnswer(IMAGE, 'a.png', result_of(SEGMENTER), confidence)


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding='utf-8'))))


def test_objects_below_the_threshold_are_neither_drawn_nor_written(detection, tmp_path):
    shown, hidden = detection.show(0.75), detection.show(0.76)
    assert [(row.name, row.value) for row in shown.rows] == [('cell', '1')]
    assert (shown.summary, hidden.summary) == ('1 object', '0 objects, 1 below the threshold')
    assert not hidden.rows
    assert (shown.figure != hidden.figure).any()
    for threshold, number in ((0.75, 1), (0.76, 0)):
        detection.write(tmp_path, threshold)
        assert len(json.loads((tmp_path / 'predictions.json').read_text())['annotations']) == number
        assert len(read_csv(tmp_path / 'predictions.csv')) == number


def test_detections_are_a_coco_data_set(detection, tmp_path):
    path = detection.write(tmp_path, 0.3)[0]
    coco = COCO(str(path))
    (entry,) = coco.loadAnns(coco.getAnnIds(imgIds=1, catIds=2))
    assert coco.loadCats(2)[0]['name'] == 'cell'
    assert coco.annToMask(entry).sum() == entry['area'] == 20 * 30
    assert (coco.loadImgs(1)[0]['width'], entry['bbox'], entry['score']) == (60, [0, 0, 30, 20], 0.75)


def test_pixels_below_the_threshold_keep_the_image_and_are_255_in_the_label_map(segmentation, tmp_path):
    everything, half = segmentation.show(0), segmentation.show(0.5)
    assert everything.summary == '2 classes'
    assert half.summary == '2 classes, 50.0% of the image below the threshold'
    assert [row.value for row in everything.rows] == ['50.0%', '50.0%']
    scale = half.figure.shape[0] // 40
    assert (half.figure[::scale, ::scale][:20] == IMAGE[:20]).all()
    assert (half.figure[::scale, ::scale][20:] == everything.figure[::scale, ::scale][20:]).all()
    path, table = segmentation.write(tmp_path, 0.5)
    with Image.open(path) as image:
        labels = np.array(image)
        colors = np.array(image.convert('RGB'))
    assert (labels[:20] == 255).all()
    assert (labels[20:] == segmentation.result.prediction[20:]).all()
    assert (colors[39, 1] == SEGMENTER.colors[1]).all()
    assert [(row['class'], row['pixels']) for row in read_csv(table)] == [('sky', '600'), ('road', '600'), ('car', '0')]


def test_without_probabilities_a_threshold_changes_nothing_and_the_page_says_so(segmentation):
    segmentation.confidence = None
    assert (segmentation.labels(0.9) == segmentation.result.prediction).all()
    assert 'no threshold' in segmentation.show(0.9).summary


def test_classes_below_the_threshold_are_not_listed_but_written(tmp_path):
    answer = ClassificationAnswer(IMAGE, 'a.png', result_of(CLASSIFIER))
    assert [row.name for row in answer.show(0.2).rows] == ['dog', 'cat']
    assert [row.name for row in answer.show(0.5).rows] == ['dog']
    (path,) = answer.write(tmp_path, 0.5)
    assert read_csv(path) == [{'class': 'dog', 'probability': '0.750000'}, {'class': 'cat', 'probability': '0.250000'}]


def test_a_long_legend_says_how_many_classes_are_left_out():
    rows = [answers.Row(str(i), '1', 1.0, None) for i in range(30)]
    assert shortened(rows[:12]) == rows[:12]
    assert [row.name for row in shortened(rows)] == [*map(str, range(11)), '19 more classes']


def test_names_that_look_like_formulas_are_quoted():
    text = to_csv(['class', 'score'], [['=1+1', '0.5'], ['@x', '-0.5'], ['\t=1', '1'], ['cat, "dog"', '1e-3']])
    assert list(csv.reader(io.StringIO(text)))[1:] == [["'=1+1", '0.5'], ["'@x", '-0.5'], ["'\t=1", '1'],
                                                  ['cat, "dog"', '1e-3']]
