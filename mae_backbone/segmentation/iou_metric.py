"""mmseg's metric of segmentation, which also keeps the results of each class."""
from unittest import mock

import numpy as np
import torch
from mmseg.evaluation import IoUMetric as MMSegIoUMetric
from mmseg.evaluation.metrics import iou_metric
from torch import Tensor

from mae_backbone.evaluation.class_table import ClassTable
from mae_backbone.registry import METRICS


@METRICS.register_module()
class IoUMetric(MMSegIoUMetric):
    """mmseg's `IoUMetric` with a `class_table`, which `ClassTableHook` logs and writes.

    Our Runner uses it for every config that names `IoUMetric`. The metrics are equal, except for classes with more than
    16.7 million pixels in an image: mmseg counts in float32, which ends there.

    Attributes:
        class_table: IoU, accuracy and other scores of each class in percent, of the last evaluation.
    """

    class_table: ClassTable

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Areas of all images -> 'aAcc', 'mIoU', 'mAcc', ..."""
        self.class_table = {}
        with mock.patch.object(iou_metric, 'print_log'):  # mmseg's own table
            return super().compute_metrics(results)

    @staticmethod
    def intersect_and_union(pred_label: Tensor, label: Tensor, num_classes: int,
                            ignore_index: int) -> tuple[Tensor, ...]:
        """Predicted and true labels (H, W) -> areas (num_classes,) float64: intersection, union, predicted, true."""
        counted = label != ignore_index
        predicted, true = pred_label[counted].long(), label[counted].long()
        intersection, predicted_area, true_area = (_areas(labels, num_classes) for labels in (
            true[predicted == true], predicted, true))
        return intersection, predicted_area + true_area - intersection, predicted_area, true_area

    def total_area_to_metrics(self, *areas: object, **options: object) -> dict:
        """Sums of areas -> the scores of each class, which are kept."""
        scores = MMSegIoUMetric.total_area_to_metrics(*areas, **options)
        pixels = np.asarray(areas[3], np.float64)
        self.class_table = {
            str(name): {'pixels': round(100 * float(pixels[i] / max(1.0, pixels.sum())), 2), **{
                column: 100 * float(np.asarray(values)[i]) for column, values in scores.items() if column != 'aAcc'}}
            for i, name in enumerate(self.dataset_meta['classes'])}
        return scores


def _areas(labels: Tensor, num_classes: int) -> Tensor:
    """labels (N,) -> number of pixels of each class (num_classes,) float64. Other labels are not counted."""
    inside = labels[(labels >= 0) & (labels < num_classes)]
    return torch.bincount(inside, minlength=num_classes).cpu().double()
