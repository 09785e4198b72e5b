"""Test-time path of FCOS as one graph: pyramid -> boxes, scores and labels of each place -> NMS in each class."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mae_backbone.export.boxes import Candidates, best, decode_distances, grid_points, is_larger, take
from mae_backbone.export.nms import nms_mask
from mae_backbone.export.two_stage import select


class OneStage(nn.Module):
    """mmdet's `FCOSHead.predict`, with its weights.

    Args:
        head: with its `test_cfg`.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, cfg = head, head.test_cfg
        self.before, self.most = cfg.nms_pre, cfg.max_per_img
        self.score_threshold, self.iou_threshold = cfg.get('score_thr', 0), cfg.nms.iou_threshold
        self.smallest = cfg.get('min_bbox_size', -1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """maps (B, D, h, w) of each level -> boxes (n, 4) within `size` (H, W), scores, labels and image (n,)."""
        levels = [self._level(i, level, size) for i, level in enumerate(maps)]
        candidates = Candidates(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))
        found, image = select(self._suppress(candidates), self.most)
        return *found, image

    def _level(self, i: int, level: Tensor, size: tuple[int, int]) -> Candidates:
        """The best candidates of a level (B, D, h, w), before NMS."""
        head, points = self.head, self.head.prior_generator
        logits, distances, centerness = head.forward_single(level, head.scales[i], head.strides[i])
        B, C, h, w = logits.shape
        scores = logits.permute(0, 2, 3, 1).reshape(B, h * w * C).sigmoid()
        scores, index = best(torch.where(scores > self.score_threshold, scores, -1.0), self.before)
        place, label = index // C, index % C
        distances = take(distances.permute(0, 2, 3, 1).reshape(B, h * w, 4), place)
        grid = grid_points((h, w), points.strides[i], points.offset, distances)
        boxes = decode_distances(head.bbox_coder, grid[place], distances, size)
        product = scores * take(centerness.reshape(B, h * w).sigmoid(), place)
        valid = scores > -0.5
        if self.smallest >= 0:
            valid = valid & is_larger(boxes, self.smallest)
        return Candidates(boxes, torch.where(valid, product, -1.0), label)

    def _suppress(self, candidates: Candidates) -> Candidates:
        """NMS in each class."""
        boxes, scores, labels = candidates
        classes = torch.arange(self.head.cls_out_channels, device=labels.device)
        of_class = torch.where(labels[:, None] == classes[:, None], scores[:, None], -1.0)  # (B, C, N)
        keep = nms_mask(boxes, of_class, self.iou_threshold, -0.5).any(1)
        return Candidates(boxes, torch.where(keep, scores, -1.0), labels)
