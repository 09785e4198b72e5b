"""Test-time path of FCOS as one graph: pyramid -> boxes, scores and labels of each place -> NMS in each class."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mae_backbone.export.boxes import Candidates, best, corners, decode_distances, is_larger, take
from mae_backbone.export.nms import nms_mask
from mae_backbone.export.two_stage import select


class OneStage(nn.Module):
    """mmdet's `FCOSHead.predict`, with its weights.

    Args:
        head: with its `test_cfg`.
    """

    strides: Tensor

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head, cfg = head, head.test_cfg
        self.before, self.most = cfg.nms_pre, cfg.max_per_img
        self.score_threshold, self.iou_threshold = cfg.get('score_thr', 0), cfg.nms.iou_threshold
        self.smallest = cfg.get('min_bbox_size', -1)
        strides = torch.tensor(head.prior_generator.strides, dtype=torch.float32)
        self.register_buffer('strides', strides, persistent=False)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """maps (B, D, h, w) of each level -> boxes (n, 4) within `size` (H, W), scores, labels and image (n,)."""
        best_of_levels = [self._best(i, level) for i, level in enumerate(maps)]
        scores, centerness, index, distances = (torch.stack(parts, dim=1)
                                                for parts in zip(*best_of_levels, strict=True))
        B, C = scores.shape[0], self.head.cls_out_channels
        points = corners(index // C, [level.shape[3] for level in maps], self.strides,
                         self.head.prior_generator.offset)
        boxes = decode_distances(self.head.bbox_coder, points, distances, size)
        valid = scores > -0.5
        if self.smallest >= 0:
            valid = valid & is_larger(boxes, self.smallest)
        scores = torch.where(valid, scores * centerness, -1.0)
        candidates = Candidates(boxes.reshape(B, -1, 4), scores.reshape(B, -1), (index % C).reshape(B, -1))
        found, image = select(self._suppress(candidates), self.most)
        return *found, image

    def _best(self, i: int, level: Tensor) -> tuple[Tensor, ...]:
        """The best K of a level (B, D, h, w): scores, -1 if too low, centerness and index (B, K), distances (B, K, 4).

        The index is place * C + class.
        """
        logits, distances, centerness = self.head.forward_single(level, self.head.scales[i], self.head.strides[i])
        B, C, h, w = logits.shape
        scores = logits.permute(0, 2, 3, 1).reshape(B, h * w * C).sigmoid()
        scores, index = best(torch.where(scores > self.score_threshold, scores, -1.0), self.before)
        place = index // C
        distances = take(distances.permute(0, 2, 3, 1).reshape(B, h * w, 4), place)
        return scores, take(centerness.reshape(B, h * w), place).sigmoid(), index, distances

    def _suppress(self, candidates: Candidates) -> Candidates:
        """NMS in each class."""
        boxes, scores, labels = candidates
        classes = torch.arange(self.head.cls_out_channels, device=labels.device)
        of_class = torch.where(labels[:, None] == classes[:, None], scores[:, None], -1.0)  # (B, C, N)
        keep = nms_mask(boxes, of_class, self.iou_threshold, -0.5).any(1)
        return Candidates(boxes, torch.where(keep, scores, -1.0), labels)
