"""Overlaps of boxes equal torchvision's."""
import numpy as np
import torch
from torchvision.ops import box_iou

from mae_backbone.planning.object_statistics import crowded_fraction, largest_overlaps, measure_objects


def random_boxes(count: int, labels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(count)
    return np.column_stack([rng.uniform(0, 50, (count, 2)), rng.uniform(5, 40, (count, 2)),
                            rng.integers(0, labels, count)])


def test_overlaps_are_those_of_torchvision():
    boxes = random_boxes(30)
    corners = torch.tensor(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], axis=1))
    overlaps = box_iou(corners, corners).numpy()
    overlaps[boxes[:, None, 4] != boxes[None, :, 4]] = 0
    np.fill_diagonal(overlaps, 0)
    np.testing.assert_allclose(largest_overlaps(boxes), overlaps.max(1), atol=1e-9)


def test_crowded_objects():
    boxes = np.array([[0, 0, 10, 10, 0], [0, 2, 10, 10, 0], [0, 1, 10, 10, 1], [40, 40, 5, 5, 0]], float)
    assert crowded_fraction([boxes, boxes[3:]]) == 2 / 5


def test_no_objects():
    assert measure_objects([(np.zeros((0, 5)), (10, 10))], has_masks=False) is None


def test_images_without_objects_count():
    boxes = np.array([[0, 0, 8, 2, 0]], float)
    statistics = measure_objects([(boxes, (40, 20)), (np.zeros((0, 5)), (40, 20))], has_masks=True)
    assert (statistics.empty_images, statistics.sides['50'], statistics.ratios['50']) == (0.5, 4, 0.25)
    assert statistics.boxes == [[2, 8, 20, 40]]
