"""The metric of segmentation has mmseg's numbers, and keeps those of each class."""
import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric as MMSegIoUMetric

from mae_backbone.segmentation.iou_metric import IoUMetric


@pytest.mark.parametrize('scores', [['mIoU'], ['mIoU', 'mDice', 'mFscore']])
def test_numbers_equal_mmseg_and_classes_are_kept(scores: list):
    rng, found = np.random.default_rng(0), []
    samples = [dict(pred_sem_seg=dict(data=torch.from_numpy(rng.integers(0, 3, (1, 8, 9)))),
                    gt_sem_seg=dict(data=torch.from_numpy(rng.choice([0, 1, 2, 255], (1, 8, 9))))) for _ in range(4)]
    for cls in (MMSegIoUMetric, IoUMetric):
        metric = cls(iou_metrics=scores)
        metric.dataset_meta = {'classes': ('sky', 'road', 'car')}
        metric.process({}, samples)
        found.append(metric.compute_metrics(metric.results))
    assert found[1] == pytest.approx(found[0], abs=1e-5)  # mmseg computes in float32
    assert list(metric.class_table) == ['sky', 'road', 'car']
    assert np.mean([row['IoU'] for row in metric.class_table.values()]) == pytest.approx(found[1]['mIoU'], abs=0.006)
    assert sum(row['pixels'] for row in metric.class_table.values()) == pytest.approx(100, abs=0.02)


def test_pixels_are_counted_exactly_in_large_images():
    true = torch.zeros(1, 1, dtype=torch.uint8).expand(4200, 4200)
    predicted = true.clone()
    predicted[:100] = 1
    areas = IoUMetric.intersect_and_union(predicted, true, 2, 255)
    assert [area.tolist() for area in areas] == [[4100 * 4200, 0], [4200 ** 2, 100 * 4200], [4100 * 4200, 100 * 4200],
                                                 [4200 ** 2, 0]]


def test_labels_outside_of_the_classes_are_counted_as_mmseg_does():
    rng = np.random.default_rng(0)
    predicted, true = (torch.from_numpy(rng.choice([0, 1, 2, 7, 255], (6, 7))) for _ in range(2))
    ours, theirs = (cls.intersect_and_union(predicted, true, 3, 255) for cls in (IoUMetric, MMSegIoUMetric))
    assert [area.tolist() for area in ours] == [area.tolist() for area in theirs]
