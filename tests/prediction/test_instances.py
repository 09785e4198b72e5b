"""Objects of an image: what is kept of their masks, and where they lie."""
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData
from pycocotools import mask as coco_rle

from mae_backbone.prediction.instances import CroppedRLE, Objects


def blobs(seed: int, height: int = 40, width: int = 33) -> np.ndarray:
    """(height, width) bool, rough shapes that may touch the rim."""
    return np.random.default_rng(seed).random((height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[
        :height, :width] > 0.6


MASKS = [blobs(seed) for seed in range(8)] + [np.ones((5, 4), bool), np.zeros((5, 4), bool), np.eye(6, dtype=bool)]


@pytest.mark.parametrize('pixels', MASKS)
def test_the_run_lengths_of_an_image_are_those_of_pycocotools(pixels):
    rle = CroppedRLE.of(pixels).in_image(*pixels.shape)
    expected = coco_rle.encode(np.asfortranarray(pixels, np.uint8))
    assert rle == {'size': list(pixels.shape), 'counts': expected['counts'].decode()}


@pytest.mark.parametrize('pixels', MASKS)
def test_a_placed_mask_is_the_mask_laid_into_an_image(pixels):
    image = np.zeros((60, 70), bool)
    image[7:7 + pixels.shape[0], 11:11 + pixels.shape[1]] = pixels
    rle = CroppedRLE.of(pixels).shifted(7, 11).in_image(60, 70)
    assert (coco_rle.decode(rle) == image).all()


@pytest.mark.parametrize('seed', range(4))
def test_masks_are_joined_as_sets_of_pixels(seed):
    first, second = (CroppedRLE.of(blobs(number)).shifted(number, 2 * number) for number in (seed, seed + 4))
    both, one, other = (coco_rle.decode(mask.in_image(60, 70)) for mask in (first.joined(second), first, second))
    assert (both == one | other).all()


@pytest.mark.parametrize('annotated', [True, False])
def test_objects_are_taken_from_predictions_and_annotations(annotated):
    mask = torch.zeros(2, 6, 8, dtype=torch.uint8)
    mask[:, 1:4, 2:7] = 1
    boxes = torch.tensor([[2.0, 1.0, 7.0, 4.0]] * 2)
    found = InstanceData(labels=torch.tensor([0, 3]))
    found.bboxes = HorizontalBoxes(boxes) if annotated else boxes
    found.masks = BitmapMasks(mask.numpy(), 6, 8) if annotated else mask
    if not annotated:
        found.scores = torch.tensor([0.2, 0.7])
    objects = Objects.of(found, threshold=0.5)
    assert objects.labels.tolist() == ([0, 3] if annotated else [3])
    assert objects.boxes.dtype == np.float32
    assert (coco_rle.decode(objects.masks[-1].in_image(6, 8)) == mask[1].numpy()).all()
    moved = objects.shifted(10, 20)
    assert moved.boxes[0].tolist() == [22, 11, 27, 14]
    assert (moved.masks[0].top, moved.masks[0].left) == (11, 22)


def test_polygons_are_masks_too():
    found = InstanceData(labels=torch.tensor([0]), bboxes=torch.tensor([[2.0, 1.0, 7.0, 4.0]]))
    found.masks = PolygonMasks([[np.array([2, 1, 7, 1, 7, 4, 2, 4])]], 6, 8)
    assert coco_rle.decode(Objects.of(found).masks[0].in_image(6, 8)).sum() == 5 * 3
