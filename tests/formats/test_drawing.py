import numpy as np
import pytest
from pycocotools import mask as coco_rle

from mae_backbone.formats.drawing import draw_label_map, draw_objects, mask_outlines


def compressed(mask: np.ndarray) -> dict:
    """mask (H, W) of 0 and 1 -> RLE as in a JSON file."""
    rle = coco_rle.encode(np.asfortranarray(mask))
    return rle | {'counts': rle['counts'].decode()}


@pytest.mark.parametrize('segmentation', [
    [[2, 3, 10, 3, 10, 8]], [[2, 3, 10, 3, 1e10, 8]], [[2, 3, 10]], 'text', {'counts': [1200], 'size': [4, 4]},
    {'counts': [300, 300, 600], 'size': [30, 40]}, compressed(np.tri(30, 40, dtype=np.uint8))])
@pytest.mark.parametrize('bbox', [[2, 3, 8, 5], [-1e10, 0, 2e10, 5]])
def test_any_segmentation_and_box_is_drawn(segmentation: object, bbox: list):
    annotation = dict(category_id=7, bbox=bbox, segmentation=segmentation)
    picture = draw_objects(np.zeros((30, 40, 3), np.uint8), [annotation], {7: 'cell'}, {7: (255, 0, 0)})
    assert picture.any()


def test_names_that_are_not_utf_8_are_drawn():
    name = 'gr\udcfcn'
    objects = draw_objects(np.zeros((30, 40, 3), np.uint8), [dict(category_id=7, bbox=[2, 3, 8, 5])], {7: name},
                           {7: (255, 0, 0)})
    assert objects.any()
    labels, colors = np.zeros((90, 90), np.uint8), np.array([[255, 0, 0]])
    assert draw_label_map(np.zeros((90, 90, 3), np.uint8), labels, {0: name}, colors).any()


def test_rle_is_drawn_as_its_outline():
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 8:25] = 1
    outline, = mask_outlines(compressed(mask), np.zeros((30, 40, 3)))
    assert outline.min(0).tolist() == [8, 5]
    assert outline.max(0).tolist() == [24, 19]


def test_each_class_is_named_but_names_do_not_cover_tiny_objects():
    def drawn(number: int) -> np.ndarray:
        annotations = [dict(category_id=7, bbox=[60 + 10 * i, 20 + 10 * i, 4, 4]) for i in range(number)]
        return draw_objects(np.zeros((120, 200, 3), np.uint8), annotations, {7: 'a long name'}, {7: (255, 0, 0)})
    first, all_of_them = (drawn(number).any(2).sum() for number in (1, 5))
    assert first > 8 * 8
    assert all_of_them == first + 4 * 5 * 5 - 4 * 3 * 3  # further outlines only: 5 x 5 pixels without their inside
