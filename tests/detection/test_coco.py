"""COCO's metric by faster-coco-eval: the numbers of pycocotools, and predictions of a part of the images."""
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import coco_config, write_coco
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmengine.logging import MMLogger
from mmengine.runner import Runner as MMEngineRunner
from pycocotools import mask as coco_rle

from mae_backbone.detection.coco import CocoMetric
from mae_backbone.engine.runner import Runner

ITEMS = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000',
         'AR_l@1000']
SIDE, CLASSES = 160, ('a', 'b', 'c')


def write_truth(path: Path, *, images: int, per_image: int, seed: int = 0) -> Path:
    """Rectangles of three classes, some of them crowds."""
    rng, annotations = np.random.default_rng(seed), []
    for image in range(images):
        for _ in range(per_image):
            width, height = rng.integers(4, 120, 2).tolist()
            x, y = rng.integers(0, SIDE - 120, 2).tolist()
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            crowd = int(rng.random() < 0.1)
            segmentation = coco_rle.frPyObjects([corners], SIDE, SIDE)[0] if crowd else [corners]
            if crowd:
                segmentation = {**segmentation, 'counts': segmentation['counts'].decode()}
            annotations.append(dict(id=len(annotations) + 1, image_id=image, category_id=10 * int(rng.integers(3)),
                                    bbox=[x, y, width, height], area=width * height, iscrowd=crowd,
                                    segmentation=segmentation))
    path.write_text(json.dumps(dict(
        images=[dict(id=image, width=SIDE, height=SIDE, file_name=f'{image}.png') for image in range(images)],
        annotations=annotations, categories=[dict(id=10 * i, name=name) for i, name in enumerate(CLASSES)])))
    return path


def predict(path: Path, *, per_image: int, seed: int = 1) -> list[tuple[dict, dict]]:
    """Pairs of ground truth and prediction: shifted annotations with tied scores, and noise."""
    rng, content = np.random.default_rng(seed), json.loads(path.read_text())
    results = []
    for image in content['images']:
        truth = [annotation for annotation in content['annotations'] if annotation['image_id'] == image['id']]
        boxes, labels = [], []
        for number in range(per_image):
            annotation = truth[number % len(truth)]
            x, y, width, height = np.array(annotation['bbox']) + rng.normal(0, 3, 4)
            boxes.append([x, y, x + max(width, 2), y + max(height, 2)])
            labels.append(annotation['category_id'] // 10 if rng.random() < 0.8 else int(rng.integers(3)))
        boxes = np.clip(np.round(boxes), 0, SIDE)
        masks = np.zeros((per_image, SIDE, SIDE), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
            mask[y1:y2, x1:x2] = 1
        results.append((dict(img_id=image['id'], width=SIDE, height=SIDE), dict(
            img_id=image['id'], bboxes=boxes, scores=rng.random(per_image).round(1), labels=np.array(labels),
            masks=[coco_rle.encode(np.asfortranarray(mask)) for mask in masks])))
    return results


def compute(kind: type, path: Path, results: list, **options: object) -> dict[str, float]:
    metric = kind(ann_file=str(path), **options)
    metric.dataset_meta = dict(classes=CLASSES)
    return metric.compute_metrics([(dict(truth), {**prediction, 'masks': [dict(mask) for mask in prediction['masks']]})
                                   for truth, prediction in results])


def test_a_detector_that_finds_nothing_has_an_ap_of_0(tmp_path: Path):
    """mmdet has no metrics then, and the value of an earlier validation would count."""
    path = write_truth(tmp_path / 'truth.json', images=2, per_image=3)
    results = predict(path, per_image=0)
    found = compute(CocoMetric, path, results, metric=['bbox', 'segm'])
    assert {kind: found[f'{kind}_mAP'] for kind in ('bbox', 'segm')} == {'bbox': 0.0, 'segm': 0.0}
    assert found.keys() == compute(CocoMetric, path, predict(path, per_image=3), metric=['bbox', 'segm']).keys()
    assert [len(prediction['bboxes']) for _, prediction in results] == [0, 0], 'its predictions stay empty'


@pytest.mark.parametrize(('per_image', 'options'), [
    (12, dict(metric=['bbox', 'segm'], metric_items=ITEMS, classwise=True)),
    (130, dict(metric=['bbox', 'segm'], metric_items=ITEMS)),  # more than the 100 detections that AP counts
    (130, dict(metric=['proposal'])),
    (12, dict(metric=['bbox', 'segm'], proposal_nums=(1, 10, 100), iou_thrs=np.array([0.5, 0.75])))])
def test_numbers_equal_pycocotools(per_image: int, options: dict, tmp_path: Path):
    path = write_truth(tmp_path / 'truth.json', images=3, per_image=9)
    results = predict(path, per_image=per_image)
    ours, expected = (compute(kind, path, results, **options) for kind in (CocoMetric, MMDetCocoMetric))
    assert len(expected) > 4
    assert ours == pytest.approx(expected, abs=1e-9)
    assert sum(0 < value < 1 for value in expected.values()) > 2


def warnings_of(function) -> list[str]:
    records, handler = [], logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    handler.setLevel(logging.WARNING)
    MMLogger.get_current_instance().addHandler(handler)
    try:
        function()
    finally:
        MMLogger.get_current_instance().removeHandler(handler)
    return records


def test_metric_of_a_part_of_the_images_is_of_that_part_and_said(tmp_path: Path):
    path = write_truth(tmp_path / 'truth.json', images=4, per_image=5)
    part = write_truth(tmp_path / 'part.json', images=2, per_image=5)  # the first two images
    results, values = predict(path, per_image=8)[:2], {}
    said = warnings_of(lambda: values.update(compute(CocoMetric, path, results, metric=['bbox', 'segm'])))
    assert said == ['predictions cover 2 of the 4 images of the annotation file: the metric is of these 2 images']
    assert values == compute(CocoMetric, part, results, metric=['bbox', 'segm'])
    assert values['bbox_mAP'] > compute(MMDetCocoMetric, path, results)['bbox_mAP']
    assert not warnings_of(lambda: compute(CocoMetric, part, results))


def test_thresholds_of_a_config_are_accepted(tmp_path: Path):
    path = write_truth(tmp_path / 'truth.json', images=2, per_image=6)
    results = predict(path, per_image=6)
    expected = compute(CocoMetric, path, results, iou_thrs=np.array([0.5]))
    for thresholds in (0.5, [0.5]):
        assert compute(CocoMetric, path, results, iou_thrs=thresholds) == expected
    assert 0 < expected['bbox_mAP'] == expected['bbox_mAP_50']


def test_categories_are_matched_by_name_whatever_their_order(tmp_path: Path):
    path = write_truth(tmp_path / 'truth.json', images=2, per_image=6)
    results = predict(path, per_image=6)
    expected = compute(CocoMetric, path, results)
    content = json.loads(path.read_text())
    content['categories'].reverse()
    path.write_text(json.dumps(content))
    assert compute(CocoMetric, path, results) == expected
    assert compute(MMDetCocoMetric, path, results)['bbox_mAP'] < expected['bbox_mAP'] / 2


def test_predictions_of_other_images_are_refused(tmp_path: Path):
    path = write_truth(tmp_path / 'truth.json', images=2, per_image=3)
    results = predict(path, per_image=3)
    for truth, prediction in results:
        truth['img_id'] = prediction['img_id'] = prediction['img_id'] + 100
    with pytest.raises(ValueError, match='none of the 2 images of the annotation file of the evaluator was predicted'):
        compute(CocoMetric, path, results)


@pytest.mark.parametrize('name', ['CocoMetric', 'mmdet.CocoMetric'])
def test_runner_builds_our_metric_for_configs_of_mmdet(name: str, tmp_path: Path):
    write_coco(tmp_path, split='val')
    config = coco_config(tmp_path).test_evaluator
    config = {**config, 'type': name}
    runner = MMEngineRunner.__new__(Runner)
    assert type(runner.build_evaluator(config).metrics[0]) is CocoMetric
    assert type(runner.build_evaluator([config]).metrics[0]) is CocoMetric
    assert config['type'] == name
