"""NMS as a mask keeps the boxes that torchvision's batched NMS keeps, in groups and classes."""
import torch
from torchvision.ops import batched_nms, box_iou

from mae_backbone.export.nms import nms_mask


def _boxes(*shape: int) -> torch.Tensor:
    corners = torch.rand(*shape, 2) * 40
    return torch.cat([corners, corners + 1 + torch.rand(*shape, 2) * 30], dim=-1)


def test_keeps_what_batched_nms_keeps():
    torch.manual_seed(0)
    G, C, N = 3, 4, 50
    boxes, scores = _boxes(G, N), torch.rand(G, C, N)
    keep = nms_mask(boxes, scores, 0.4, 0.3)
    for group in range(G):
        label, index = (scores[group] > 0.3).nonzero().unbind(1)
        kept = batched_nms(boxes[group, index], scores[group, label, index], label, 0.4)
        expected = torch.zeros(C, N, dtype=torch.bool)
        expected[label[kept], index[kept]] = True
        assert torch.equal(keep[group], expected)
        assert 0 < int(expected.sum()) < len(index)


def test_kept_boxes_do_not_overlap_and_dropped_ones_do():
    torch.manual_seed(1)
    boxes, scores = _boxes(1, 60), torch.rand(1, 1, 60)
    keep = nms_mask(boxes, scores, 0.5, 0.0)[0, 0]
    overlaps = box_iou(boxes[0, keep], boxes[0, keep]).fill_diagonal_(0)
    assert (overlaps <= 0.5).all()
    for i in (~keep).nonzero()[:, 0]:
        better = keep & (scores[0, 0] > scores[0, 0, i])
        assert (box_iou(boxes[0, i][None], boxes[0, better]) > 0.5).any()


def test_overlap_at_the_threshold_is_compared_in_float32():
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 3.0]]])  # IoU 0.3 in float32
    assert nms_mask(boxes, torch.tensor([[[0.9, 0.8]]]), 0.3, 0.0).all()


def test_no_candidates():
    assert not nms_mask(_boxes(2, 5), torch.zeros(2, 1, 5), 0.5, 0.0).any()
