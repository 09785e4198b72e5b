"""The confusion of a detector equals a plain implementation, and a validation writes it."""
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from torchvision.ops import box_iou

from mae_backbone.hooks.confusion import confusion_matrix
from mae_backbone.hooks.detection_confusion import describe, match_boxes, summary

CLASSES = 3


def plain_matrix(true_boxes: list, true_labels: list, boxes: list, labels: list, scores: list,
                 ignored: list) -> np.ndarray:
    """Counts with loops and torchvision's overlaps."""
    import torch
    matrix = np.zeros((CLASSES + 1, CLASSES + 1), int)
    free = [i for i in range(len(true_boxes)) if not ignored[i]]
    for _, number in sorted((-score, number) for number, score in enumerate(scores)):
        box = torch.tensor(boxes[number], dtype=torch.float64)[None]
        overlaps = {i: float(box_iou(box, torch.tensor(true_boxes[i], dtype=torch.float64)[None])) for i in free}
        best = max(free, key=lambda i: (overlaps[i], -i), default=None)
        if best is not None and overlaps[best] >= 0.5:
            free.remove(best)
            matrix[true_labels[best], labels[number]] += 1
            continue
        x1, y1, x2, y2 = boxes[number]
        inside = [max(0, min(x2, c) - max(x1, a)) * max(0, min(y2, d) - max(y1, b)) / ((x2 - x1) * (y2 - y1))
                  for (a, b, c, d), hidden in zip(true_boxes, ignored, strict=True) if hidden]
        if max(inside, default=0) < 0.5:
            matrix[CLASSES, labels[number]] += 1
    for i in free:
        matrix[true_labels[i], CLASSES] += 1
    return matrix


@pytest.mark.parametrize('seed', range(8))
def test_matrix_equals_a_plain_implementation(seed: int):
    rng = np.random.default_rng(seed)
    corner, size = rng.integers(0, 40, (12, 2)), rng.integers(8, 30, (12, 2))
    true_boxes = np.concatenate([corner, corner + size], 1).astype(float)
    true_labels, ignored = rng.integers(0, CLASSES, 12), rng.random(12) < 0.2
    chosen = rng.integers(0, 12, 30)
    boxes = true_boxes[chosen] + rng.integers(-3, 4, (30, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels, scores = rng.integers(0, CLASSES, 30), rng.random(30)
    pairs = match_boxes(true_boxes, true_labels, boxes, labels, scores, ignored=ignored, background=CLASSES)
    expected = plain_matrix(true_boxes.tolist(), true_labels.tolist(), boxes.tolist(), labels.tolist(), scores.tolist(),
                            ignored.tolist())
    matrix = confusion_matrix(pairs, num_classes=CLASSES + 1)
    assert matrix.tolist() == expected.tolist()
    assert matrix[:CLASSES].sum() == (~ignored).sum(), 'each object counts once'


def test_higher_score_takes_the_object():
    truth = np.array([[0, 0, 10, 10.0]])
    pairs = match_boxes(truth, np.array([0]), np.array([[0, 0, 10, 9], [0, 0, 10, 10.0]]), np.array([1, 0]),
                        np.array([0.9, 0.8]), ignored=np.zeros(1, bool), background=2)
    assert pairs.tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize('empty', ['objects', 'predictions', 'both'])
def test_images_without_objects_or_predictions(empty: str):
    objects, predictions = (np.zeros((0, 4)) if empty in (name, 'both') else np.array([[0, 0, 5, 5.0]])
                            for name in ('objects', 'predictions'))
    pairs = match_boxes(objects, np.zeros(len(objects), int), predictions, np.zeros(len(predictions), int),
                        np.ones(len(predictions)), ignored=np.zeros(len(objects), bool), background=1)
    assert pairs.tolist() == {'objects': [[1, 0]], 'predictions': [[0, 1]], 'both': []}[empty]


def test_summary_has_precision_recall_and_pairs():
    matrix = np.array([[3, 1, 2], [0, 4, 0], [5, 0, 0]])
    found = summary(matrix, ['cat', 'dog', 'background'])
    assert found['classes']['cat'] == {'objects': 6, 'predictions': 8, 'recall': 50.0, 'precision': 37.5}
    assert found['mixed_up'] == [{'true': 'cat', 'guess': 'dog', 'boxes': 1}]
    assert describe(matrix).startswith('of 10 objects 7 were found, 1 with a wrong class, 2 were missed; 5 pred')


@pytest.mark.slow  # trains a detector
def test_validations_write_everything_that_can_be_watched(tmp_path: Path):
    """A whole detection run: matrix, table of classes, pictures, plot."""
    from helpers.micro_runs import run_config, train, write_data
    data = write_data('detection', tmp_path / 'data')
    cfg = run_config('detection', tmp_path / 'run', data, iterations=6, save_every=6)
    cfg.train_cfg.val_interval = 6
    cfg.default_hooks.update(
        plots=dict(type='mae_backbone.PlotHook'), throughput=dict(type='mae_backbone.ThroughputHook'),
        classes=dict(type='mae_backbone.ClassTableHook'), pictures=dict(type='mae_backbone.ValidationPicturesHook',
                                                                        images=3, threshold=0.0),
        confusion=dict(type='mae_backbone.DetectionConfusionHook', threshold=0.0))
    runner = train(cfg)
    folder = tmp_path / 'run'
    table = list(csv.reader((folder / 'confusion_val.csv').read_text().splitlines()))
    assert table[0] == ['true / predicted', 'aerosol_can', 'air_conditioner', 'background']
    counts = np.array([row[1:] for row in table[1:]], int)
    assert counts[:2].sum(1).tolist() == [2, 2], 'all objects but the crowd'
    assert json.loads((folder / 'confusion_val.json').read_text())['classes']['aerosol_can']['objects'] == 2
    rows = list(csv.reader((folder / 'classes_val.csv').read_text().splitlines()))
    assert rows[0] == ['class', 'objects', 'bbox AP', 'bbox AP50', 'segm AP', 'segm AP50']
    assert [row[:2] for row in rows[1:]] == [['aerosol_can', '2'], ['air_conditioner', '2']]
    mean = np.mean([float(row[2]) for row in rows[1:]]) / 100
    assert runner.message_hub.get_scalar('val/coco/bbox_mAP').current() == pytest.approx(mean, abs=6e-4)
    picture = cv2.imread(str(folder / 'validation' / 'iter_6.jpg'))
    assert picture.shape[0] > 3 * 320
    assert picture.shape[1] == 2 * (400 + 4), 'images of 80x64 at their own aspect ratio'
    for name in ('confusion_val.png', 'training.png'):
        assert cv2.imread(str(folder / name)) is not None
