"""COCO's metric computed by faster-coco-eval, for predictions of all images of the annotation file."""
import logging
from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
from faster_coco_eval import COCOeval_faster
from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmdet.evaluation.metrics import coco_metric
from mmengine.logging import print_log

from mae_backbone.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's `CocoMetric`, computed by faster-coco-eval instead of pycocotools.

    All numbers are equal, and it takes a twentieth to a fiftieth of the time. Our Runner uses it for every config that
    names `CocoMetric`.

    pycocotools counts the objects of images that were not predicted as missed. If predictions cover only a part of the
    images of the annotation file, because the data set filters its images or takes a fraction of them, this metric is
    computed for the predicted images, and says so.

    Args:
        options: as in mmdet's CocoMetric.
    """

    iou_thrs: np.ndarray | list | float
    cat_ids: list | None
    img_ids: list | None

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Pairs of ground truth and prediction of all images -> 'bbox_mAP', 'bbox_mAP_50', ..."""
        self.iou_thrs = np.atleast_1d(self.iou_thrs)  # a list, as configs have it, is not compared by element
        if self._coco_api is not None:
            self.img_ids = predicted_images(self._coco_api.get_img_ids(), results)
            self.cat_ids = category_ids(self._coco_api.dataset['categories'], self.dataset_meta['classes'])
        if self.use_mp_eval:
            return super().compute_metrics(results)
        with mock.patch.object(coco_metric, 'COCOeval', COCOeval):
            return super().compute_metrics(results)


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
        """Computes `stats`. Like pycocotools, AP counts 100 detections per image, whatever the largest limit is."""
        super().summarize()
        if self.params.useCats and self.params.iouType in ('bbox', 'segm'):
            at_100 = np.array(self.params.maxDets) == 100
            precision = self.eval['precision'][:, :, :, 0, at_100]  # (IoU, recall, class, limit), objects of any size
            precision = precision[precision > -1]
            self.stats[0] = precision.mean() if len(precision) else -1


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
