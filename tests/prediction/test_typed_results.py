"""Typed results: numbers, masks, figures, and the formats of other programs."""
import io
from pathlib import Path

import numpy as np
import pytest
import supervision
from PIL import Image
from pycocotools import mask as coco_rle

from mae_backbone.prediction.inputs import Source
from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.prediction.typed_results import (
    ClassificationResult,
    DetectionResult,
    ReconstructionResult,
    SegmentationResult,
    draw_reconstructions,
    to_result,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
CLASSES, COLORS = ('cell', '<b>"x"'), [(255, 0, 0), (0, 0, 255)]
MASKS = np.zeros((2, 40, 60), bool)
MASKS[0, 5:20, 10:30], MASKS[1, 30:40, 50:60] = True, True
INSTANCES = Instances(np.float32([[10, 5, 30, 20], [50, 30, 60, 40]]), np.float32([0.9, 0.4]), np.array([1, 0]),
                      [CroppedRLE.from_mask(mask) for mask in MASKS])
LABELS = np.zeros((40, 60), np.uint8)
LABELS[:, 30:], LABELS[0, 0] = 1, 255


def result(task: str):
    prediction = {'detection': INSTANCES, 'segmentation': LABELS, 'classification': np.float32([0.25, 0.75])}[task]
    return to_result(prediction, task, Source(IMAGE), (40, 60), CLASSES, COLORS)


def test_objects_have_boxes_names_and_masks_of_the_image():
    objects = result('detection')
    assert isinstance(objects, DetectionResult)
    assert len(objects) == 2
    assert objects.names == ['<b>"x"', 'cell']
    assert (objects.masks == MASKS).all()
    assert (coco_rle.decode(objects.rles).transpose(2, 0, 1).astype(bool) == MASKS).all()
    assert objects.filter(0.5).names == ['<b>"x"']
    assert (objects.filter(0.5).masks == MASKS[:1]).all()


def test_objects_without_masks_have_none():
    boxes = Instances(INSTANCES.boxes, INSTANCES.scores, INSTANCES.labels)
    objects = to_result(boxes, 'detection', Source(IMAGE), (40, 60), CLASSES, COLORS)
    assert objects.masks is None
    assert objects.rles is None
    assert objects.to_supervision().mask is None
    assert 'segmentation' not in objects.to_coco()[0]


def test_objects_in_the_formats_of_other_programs():
    objects = result('detection')
    first = objects.to_coco(image_id=7, category_ids=[3, 5])[0]
    assert (first['image_id'], first['category_id'], first['bbox']) == (7, 5, [10, 5, 20, 15])
    assert objects.to_coco()[1]['category_id'] == 1
    other = objects.to_supervision()
    assert isinstance(other, supervision.Detections)
    assert (other.xyxy == objects.boxes).all()
    assert (other.mask == MASKS).all()
    assert list(other.data['class_name']) == objects.names


def test_no_objects_at_all():
    nothing = to_result(INSTANCES.select(np.array([], int)), 'detection', Source(IMAGE), (40, 60), CLASSES, COLORS)
    assert (len(nothing), nothing.to_coco(), nothing.names) == (0, [], [])
    assert nothing.masks.shape == (0, 40, 60)
    assert len(nothing.to_supervision()) == 0
    assert nothing.describe() == 'nothing'


def test_labels_of_pixels_in_the_formats_of_other_programs():
    areas = result('segmentation')
    assert isinstance(areas, SegmentationResult)
    assert (areas.mask('cell') == (LABELS == 0)).all()
    with pytest.raises(ValueError, match="no class 'car': the model has cell"):
        areas.mask('car')
    assert areas.areas()['pixels'] == {'cell': 1199, '<b>"x"': 1200}
    entries = areas.to_coco(category_ids=[4, 9])
    assert [entry['category_id'] for entry in entries] == [4, 9]
    assert (coco_rle.decode(entries[1]['segmentation']).astype(bool) == (LABELS == 1)).all()
    other = areas.to_supervision()
    assert (other.mask[1] == (LABELS == 1)).all()
    assert list(other.class_id) == [0, 1]


def test_scores_of_classes():
    scores = result('classification')
    assert isinstance(scores, ClassificationResult)
    assert (scores.label, scores.name, scores.score) == (1, '<b>"x"', 0.75)
    assert scores.top(1) == [('<b>"x"', 0.75)]
    assert scores.probabilities == {'cell': 0.25, '<b>"x"': 0.75}
    assert scores.to_supervision().get_top_k(1)[0] == [1]


@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_a_notebook_shows_the_figure_and_no_markup_of_a_class_name(task: str, tmp_path: Path):
    shown = result(task)
    with Image.open(io.BytesIO(shown._repr_png_())) as image:
        assert (np.array(image) == shown.draw()).all()
    page = shown._repr_html_()
    assert '<img src="data:image/png;base64,' in page
    assert '<b>' not in page
    shown.save(tmp_path / 'figure.png')
    with Image.open(tmp_path / 'figure.png') as image:
        assert (np.array(image) == shown.draw()).all()
    assert repr(shown).startswith(f'{type(shown).__name__}(image, 60x40 pixels: ')


def test_the_image_of_a_file_is_read_again(tmp_path: Path):
    Image.fromarray(IMAGE).save(tmp_path / 'a.png')
    path = tmp_path / 'a.png'
    shown = to_result(INSTANCES, 'detection', Source(path, path), (40, 60), CLASSES, COLORS)
    assert (shown.image() == IMAGE).all()
    assert (shown.draw() == result('detection').draw()).all()
    assert 'a.png' in repr(shown)


def test_a_reconstruction_says_how_far_off_it_is():
    hidden = np.array([[True, False], [False, False]])
    filled = IMAGE[:40, :40].copy()
    filled[:20, :20] = np.where(filled[:20, :20] > 127, filled[:20, :20] - 8, filled[:20, :20] + 8)
    one = ReconstructionResult(Source(IMAGE), IMAGE[:40, :40], IMAGE[:40, :40], filled, hidden, 20)
    assert one.describe() == '25% of the patches hidden, mean error 8.0 of 255'
    assert draw_reconstructions([one, one]).shape[0] > 1.5 * one.draw().shape[0]
    assert one._repr_png_().startswith(b'\x89PNG')
