"""LVIS v1 without the lvis package: its data set, and its metric computed by faster-coco-eval."""
import json
import os
import tempfile
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger

from mae_backbone.detection.coco import category_ids, class_table, predicted_images
from mae_backbone.evaluation.class_table import ClassTable, merged
from mae_backbone.formats.coco_json import image_file
from mae_backbone.registry import DATASETS, METRICS

# Names of faster-coco-eval -> names of the metric.
_NAMES = {'AP_all': 'AP', 'AP_50': 'AP50', 'AP_75': 'AP75', 'AP_small': 'APs', 'AP_medium': 'APm', 'AP_large': 'APl',
          'APr': 'APr', 'APc': 'APc', 'APf': 'APf'}


@DATASETS.register_module()
class LVISDataset(CocoDataset):
    """LVIS v1: annotations in COCO's format that name their images by `coco_url`.

    mmdet's `LVISV1Dataset` requires the lvis package, and its release 0.5.3 does not run with NumPy 2.
    """

    METAINFO = LVISV1Dataset.METAINFO

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Parses an image as mmdet does. The file name comes from the URL if there is no `file_name`."""
        image = raw_data_info['raw_img_info']
        return super().parse_data_info({**raw_data_info, 'raw_img_info': {**image, 'file_name': image_file(image)}})


@METRICS.register_module()
class LVISMetric(CocoMetric):
    """AP of LVIS (Gupta et al., CVPR 2019): over all classes, and over rare, common and frequent ones.

    A detection is ignored if the annotations do not say whether the image shows its class. An unmatched detection is
    also ignored if not all objects of its class are annotated in the image.

    Args:
        ann_file: annotations of LVIS, or others in COCO's format with `neg_category_ids` and
            `not_exhaustive_category_ids` of images and `frequency` (r, c, f) of categories.
        metric: 'bbox', 'segm', or both.
        max_detections: number of detections per image that count, those with the highest scores; 300 in LVIS.
        options: arguments of mmdet's CocoMetric, such as `format_only` and `outfile_prefix`.

    Attributes:
        class_table: objects, AP and AP at an IoU of 0.5 of each class in percent, of the last evaluation.
    """

    class_table: ClassTable
    default_prefix = 'lvis'
    cat_ids: list | None
    img_ids: list | None

    def __init__(self, ann_file: str, *, metric: str | list[str] = 'bbox', max_detections: int = 300,
                 **options: Any) -> None:
        super().__init__(ann_file=ann_file, metric=metric, **options)
        self.ann_file, self.max_detections = ann_file, max_detections

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Pairs of ground truth and prediction of all images -> 'bbox_AP', 'bbox_APr', ..."""
        self.class_table = {}
        predictions = [prediction for _, prediction in results]
        self.img_ids = predicted_images(self._coco_api.get_img_ids(), results)
        if self.cat_ids is None:
            self.cat_ids = category_ids(self._coco_api.dataset['categories'], self.dataset_meta['classes'])
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or os.path.join(folder, 'results')
            files = self.results2json(predictions, prefix)
            if self.format_only:
                MMLogger.get_current_instance().info(f'results are saved in {os.path.dirname(prefix)}')
                return {}
            metrics: dict[str, float] = {}
            for kind in self.metrics:
                with open(files[kind], encoding='utf-8') as file:
                    metrics |= self._average_precisions(json.load(file), kind)
        return metrics

    def _average_precisions(self, detections: list[dict], kind: str) -> dict[str, float]:
        """Boxes or masks in COCO's result format -> the metrics of LVIS."""
        if not detections:
            MMLogger.get_current_instance().error('no objects were detected in any image')
            return {f'{kind}_{name}': 0.0 for name in _NAMES.values()}
        if kind == 'segm':
            # With a 'bbox' in the results, the areas would be the areas of the boxes instead of the masks.
            detections = [{key: value for key, value in detection.items() if key != 'bbox'}
                          for detection in detections]
        truth = COCO(self.ann_file)
        evaluation = COCOeval_faster(truth, truth.loadRes(detections), kind, lvis_style=True,
                                     print_function=lambda *_: None)
        evaluation.params.maxDets = [self.max_detections]
        evaluation.params.catIds = self.cat_ids
        evaluation.params.imgIds = self.img_ids
        evaluation.run()
        self.class_table = merged(self.class_table, class_table(evaluation))
        values = evaluation.stats_as_dict
        return {f'{kind}_{name}': round(float(np.asarray(values[key])), 4) for key, name in _NAMES.items()}
