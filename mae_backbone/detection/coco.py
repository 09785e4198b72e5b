"""COCO's metric computed by faster-coco-eval, for predictions of all images of the annotation file."""
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
from faster_coco_eval import COCOeval_faster
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmdet.evaluation.metrics import coco_metric
from mmengine.logging import print_log
from pycocotools import mask as coco_rle

from mae_backbone.evaluation.class_table import ClassTable, merged
from mae_backbone.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's `CocoMetric`, computed by faster-coco-eval instead of pycocotools.

    All numbers are equal, and it takes a twentieth to a fiftieth of the time. Our Runner uses it for every config that
    names `CocoMetric`.

    pycocotools counts the objects of images that were not predicted as missed. If predictions cover only a part of the
    images of the annotation file, because the data set filters its images or takes a fraction of them, this metric is
    computed for the predicted images, and says so.

    mmdet computes no metrics for a detector that finds nothing. With this metric, they are 0.

    Args:
        options: as in mmdet's CocoMetric.

    Attributes:
        class_table: objects, AP and AP at an IoU of 0.5 of each class in percent, of the last evaluation.
    """

    class_table: ClassTable

    iou_thrs: np.ndarray | list | float
    cat_ids: list | None
    img_ids: list | None

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Pairs of ground truth and prediction of all images -> 'bbox_mAP', 'bbox_mAP_50', ..."""
        self.class_table = {}
        self.iou_thrs = np.atleast_1d(self.iou_thrs)  # a list, as configs have it, is not compared by element
        if self._coco_api is not None:
            self.img_ids = predicted_images(self._coco_api.get_img_ids(), results)
            self.cat_ids = category_ids(self._coco_api.dataset['categories'], self.dataset_meta['classes'])
        results = results if self.format_only else with_any_detection(results)
        if self.use_mp_eval:
            return super().compute_metrics(results)
        evaluations: list[COCOeval] = []

        def remembered(*args: Any) -> COCOeval:
            evaluations.append(COCOeval(*args))
            return evaluations[-1]
        with mock.patch.object(coco_metric, 'COCOeval', remembered):
            metrics = super().compute_metrics(results)
        self.class_table = merged(*(class_table(evaluation) for evaluation in evaluations
                                    if evaluation.eval and evaluation.params.useCats))
        return metrics


def with_any_detection(results: list[tuple[dict, dict]]) -> list[tuple[dict, dict]]:
    """Returns the results with a detection without area if they have none, which no object matches."""
    if not results or any(len(prediction['bboxes']) for _, prediction in results):
        return results
    print_log('no objects were detected in any image', logger='current', level=logging.WARNING)
    (truth, prediction), *others = results
    empty = np.zeros((truth['height'], truth['width'], 1), np.uint8, order='F')
    added = {'bboxes': np.zeros((1, 4)), 'scores': np.zeros(1), 'labels': np.zeros(1, int),
             'masks': coco_rle.encode(empty), 'mask_scores': np.zeros(1)}
    return [(truth, {name: added.get(name, value) for name, value in prediction.items()}), *others]


def category_ids(categories: Sequence[dict], classes: Sequence[str]) -> list[int | str]:
    """Ids of the categories with the names of the classes, in the order of the classes.

    mmdet takes the order of the file, in which labels would be mixed up if the classes of the model have another one.
    """
    order = {name: label for label, name in enumerate(classes)}
    chosen = [category for category in categories if category['name'] in order]
    return [category['id'] for category in sorted(chosen, key=lambda category: order[category['name']])]


class COCOeval(COCOeval_faster):
    """faster-coco-eval's evaluation with the numbers of pycocotools."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, print_function=lambda *_: None)  # mmdet logs the numbers

    def summarize(self) -> None:
        """Computes `stats`. Like pycocotools, AP counts 100 detections per image, regardless of the largest limit."""
        super().summarize()
        if self.params.useCats and self.params.iouType in ('bbox', 'segm'):
            at_100 = np.array(self.params.maxDets) == 100
            precision = self.eval['precision'][:, :, :, 0, at_100]  # (IoU, recall, class, limit), objects of any size
            precision = precision[precision > -1]
            self.stats[0] = precision.mean() if len(precision) else -1


def class_table(evaluation: COCOeval_faster) -> ClassTable:
    """Objects, AP and AP at an IoU of 0.5 of each class in percent; NaN for a class without objects."""
    params, kind = evaluation.params, evaluation.params.iouType
    limits = list(params.maxDets)
    limit = limits.index(100) if 100 in limits else -1
    precision = evaluation.eval['precision'][..., 0, limit]  # (IoU, recall, class), objects of any size
    truth, images = evaluation.cocoGt, set(params.imgIds)
    counts = Counter(annotation['category_id'] for annotation in truth.dataset['annotations']
                     if annotation['image_id'] in images and not annotation.get('iscrowd'))
    names = {category['id']: str(category['name']) for category in truth.dataset['categories']}
    table: ClassTable = {}
    for index, category in enumerate(params.catIds):
        values = precision[:, :, index]
        row: dict[str, float] = {'objects': counts[category], f'{kind} AP': _mean(values)}
        if 0.5 in params.iouThrs:
            row[f'{kind} AP50'] = _mean(values[list(params.iouThrs).index(0.5)])
        table[names[category]] = row
    return table


def _mean(precision: np.ndarray) -> float:
    """Mean in percent of the values that are defined; NaN if there are none."""
    defined = precision[precision > -1]
    return 100 * float(defined.mean()) if len(defined) else float('nan')


def predicted_images(image_ids: Sequence[int | str], results: Sequence[tuple[dict, dict]]) -> list[int | str]:
    """Ids of the annotation file whose images were predicted; warns if these are not all.

    Args:
        image_ids: of the annotation file.
        results: pairs of ground truth and prediction.

    Raises:
        ValueError: no image of the annotation file was predicted.
    """
    predicted = {prediction['img_id'] for _, prediction in results}
    ids = [image_id for image_id in image_ids if image_id in predicted]
    if not ids:
        raise ValueError(f'none of the {len(image_ids)} images of the annotation file of the evaluator was predicted: '
                         'set ann_file of the evaluator to the ann_file of the data set')
    if len(ids) < len(image_ids):
        print_log(f'predictions cover {len(ids)} of the {len(image_ids)} images of the annotation file: the metric is '
                  f'of these {len(ids)} images', logger='current', level=logging.WARNING)
    return ids
