"""Instances of an image: run lengths of their masks, and where they lie."""
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData
from pycocotools import mask as coco_rle

from mae_backbone.prediction.instances import CroppedRLE, Instances


def blobs(seed: int, height: int = 40, width: int = 33) -> np.ndarray:
    """(height, width) bool, rough shapes that may touch the rim."""
    return np.random.default_rng(seed).random((height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[
        :height, :width] > 0.6


MASKS = [blobs(seed) for seed in range(8)] + [np.ones((5, 4), bool), np.zeros((5, 4), bool), np.eye(6, dtype=bool)]


@pytest.mark.parametrize('pixels', MASKS)
def test_run_lengths_equal_pycocotools(pixels):
    rle = CroppedRLE.from_mask(pixels).in_image(*pixels.shape)
    expected = coco_rle.encode(np.asfortranarray(pixels, np.uint8))
    assert rle == {'size': list(pixels.shape), 'counts': expected['counts'].decode()}


@pytest.mark.parametrize('pixels', MASKS)
def test_shifted_mask_is_the_mask_pasted_into_an_image(pixels):
    image = np.zeros((60, 70), bool)
    image[7:7 + pixels.shape[0], 11:11 + pixels.shape[1]] = pixels
    rle = CroppedRLE.from_mask(pixels).shift(7, 11).in_image(60, 70)
    assert (coco_rle.decode(rle) == image).all()


@pytest.mark.parametrize('seed', range(4))
def test_union_equals_the_union_of_pixels(seed):
    first, second = (CroppedRLE.from_mask(blobs(number)).shift(number, 2 * number) for number in (seed, seed + 4))
    both, first, second = (coco_rle.decode(mask.in_image(60, 70)) for mask in (first.union(second), first, second))
    assert (both == first | second).all()


@pytest.mark.parametrize('annotated', [True, False])
def test_instances_are_converted_from_predictions_and_annotations(annotated):
    mask = torch.zeros(2, 6, 8, dtype=torch.uint8)
    mask[:, 1:4, 2:7] = 1
    boxes = torch.tensor([[2.0, 1.0, 7.0, 4.0]] * 2)
    data = InstanceData(labels=torch.tensor([0, 3]))
    data.bboxes = HorizontalBoxes(boxes) if annotated else boxes
    data.masks = BitmapMasks(mask.numpy(), 6, 8) if annotated else mask
    if not annotated:
        data.scores = torch.tensor([0.2, 0.7])
    instances = Instances.from_data(data, threshold=0.5)
    assert instances.labels.tolist() == ([0, 3] if annotated else [3])
    assert instances.boxes.dtype == np.float32
    assert (coco_rle.decode(instances.masks[-1].in_image(6, 8)) == mask[1].numpy()).all()
    shifted = instances.shift(10, 20)
    assert shifted.boxes[0].tolist() == [22, 11, 27, 14]
    assert (shifted.masks[0].top, shifted.masks[0].left) == (11, 22)


def test_polygons_are_converted_to_masks():
    data = InstanceData(labels=torch.tensor([0]), bboxes=torch.tensor([[2.0, 1.0, 7.0, 4.0]]))
    data.masks = PolygonMasks([[np.array([2, 1, 7, 1, 7, 4, 2, 4])]], 6, 8)
    assert coco_rle.decode(Instances.from_data(data).masks[0].in_image(6, 8)).sum() == 5 * 3
