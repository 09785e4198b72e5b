"""Masks of an exported detector are pasted as mmdet does."""
import numpy as np
import torch

from mae_backbone.prediction.onnx.paste import paste_mask


def test_masks_are_those_of_mmdet():
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    import mae_backbone  # noqa: F401  installs the ops that mmdet imports
    random = np.random.default_rng(0)
    size = 60, 80
    corners = random.uniform(-4, 50, (40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(0.5, 50, (40, 2))], axis=1).astype(np.float32)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, size[1])
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, size[0])
    masks = random.uniform(0, 1, (40, 28, 28)).astype(np.float32)
    expected, _ = _do_paste_mask(torch.from_numpy(masks)[:, None], torch.from_numpy(boxes), *size, skip_empty=False)
    for mask, box, probabilities in zip(masks, boxes, expected.numpy(), strict=True):
        region, top, left = paste_mask(mask, box, size)
        pasted = np.zeros(size, bool)
        pasted[top:top + region.shape[0], left:left + region.shape[1]] = region
        different = pasted != (probabilities >= 0.5)
        assert np.abs(probabilities[different] - 0.5).max(initial=0) < 1e-4  # rounding at the threshold


def test_box_without_extent_has_no_mask():
    region, _, _ = paste_mask(np.ones((28, 28), np.float32), np.float32([5, 5, 5, 9]), (20, 20))
    assert not region.any()


def test_full_mask_fills_its_box():
    region, top, left = paste_mask(np.ones((28, 28), np.float32), np.float32([4, 6, 12, 20]), (32, 32))
    pasted = np.zeros((32, 32), bool)
    pasted[top:top + region.shape[0], left:left + region.shape[1]] = region
    expected = np.zeros((32, 32), bool)
    expected[6:20, 4:12] = True
    np.testing.assert_array_equal(pasted, expected)
