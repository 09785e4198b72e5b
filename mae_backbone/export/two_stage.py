"""Test-time path of Faster, Mask and Cascade R-CNN as one graph: pyramid -> proposals -> boxes -> masks.

It restates mmdet's `predict` with shapes that do not depend on the data up to the last step, and shares its weights.

Shapes: B images, S levels, K anchors of a level, R proposals of an image, C classes, n objects found in all images.
"""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mae_backbone.export.boxes import Candidates, anchors, best, decode_deltas, is_larger, take
from mae_backbone.export.nms import nms_mask
from mae_backbone.export.regions import RegionFeatures


class Proposals(nn.Module):
    """Region proposal network: the best boxes of each level, then NMS in each level.

    Args:
        head: mmdet's `RPNHead` with its `test_cfg`.
    """

    base: Tensor
    strides: Tensor

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head, cfg = head, head.test_cfg
        self.before, self.after = cfg.nms_pre, cfg.max_per_img
        self.iou_threshold, self.smallest = cfg.nms.iou_threshold, cfg.get('min_bbox_size', -1)
        generator = head.prior_generator
        self.register_buffer('base', torch.stack(list(generator.base_anchors)), persistent=False)  # (S, A, 4)
        self.register_buffer('strides', torch.tensor(generator.strides, dtype=torch.float32), persistent=False)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """maps (B, D, h, w) of each level -> boxes (B, R, 4) within `size` (H, W), scores (B, R), -1 for no box."""
        best_of_levels = [self._best(*self.head.forward_single(level)) for level in maps]
        scores, index, deltas = (torch.stack(parts, dim=1) for parts in zip(*best_of_levels, strict=True))
        B, S, K = scores.shape
        places = anchors(index, [level.shape[3] for level in maps], self.strides, self.base)
        boxes = decode_deltas(self.head.bbox_coder, places, deltas, size)
        if self.smallest >= 0:
            scores = torch.where(is_larger(boxes, self.smallest), scores, -1.0)
        boxes, scores = boxes.reshape(B * S, K, 4), scores.reshape(B * S, 1, K)
        scores = torch.where(nms_mask(boxes, scores, self.iou_threshold, -0.5), scores, -1.0)
        scores, index = best(scores.reshape(B, S * K), self.after)
        return take(boxes.reshape(B, S * K, 4), index), scores

    def _best(self, logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (B, K), indices (B, K) and deltas (B, K, 4) of the best anchors of a level, before NMS."""
        B, _, h, w = logits.shape
        number = h * w * self.base.shape[1]
        logits = logits.permute(0, 2, 3, 1).reshape(B, number, -1)
        scores = logits[..., 0].sigmoid() if self.head.use_sigmoid_cls else logits.softmax(-1)[..., 0]
        scores, index = best(scores, self.before)
        return scores, index, take(deltas.permute(0, 2, 3, 1).reshape(B, number, 4), index)


class TwoStage(nn.Module):
    """Proposals, and the boxes, labels and masks that the heads predict for them.

    Args:
        rpn_head, roi_head: mmdet's, with their `test_cfg`. The RoI head of Cascade R-CNN is ours.
    """

    def __init__(self, rpn_head: Any, roi_head: Any) -> None:
        super().__init__()
        self.proposals = Proposals(rpn_head)
        heads = roi_head.bbox_head
        cascade = isinstance(heads, nn.ModuleList)
        self.heads: Any = heads if cascade else nn.ModuleList([heads])
        extractors = roi_head.bbox_roi_extractor if cascade else [roi_head.bbox_roi_extractor]
        self.crop = nn.ModuleList(map(RegionFeatures, extractors))
        cfg = roi_head.test_cfg
        self.score_threshold, self.iou_threshold, self.most = cfg.score_thr, cfg.nms.iou_threshold, cfg.max_per_img
        self.mask_head: Any = None
        self.crop_masks: Any = None
        if roi_head.with_mask:
            self.mask_head, self.crop_masks = roi_head.mask_head, RegionFeatures(roi_head.mask_roi_extractor)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, ...]:
        """maps (B, D, h, w) -> boxes (n, 4), scores (n,), labels (n,), image (n,), and masks (n, m, m) if any."""
        boxes, scores = self.proposals(maps, size)
        candidates = self._classify(maps, boxes, scores, size)
        found, image = select(candidates, self.most)
        if self.mask_head is None:
            return *found, image
        logits = self.mask_head(self.crop_masks(maps, regions(image, found[0])))
        if not self.mask_head.class_agnostic:
            index = found[2][:, None, None, None].expand(-1, 1, *logits.shape[2:])
            logits = logits.gather(1, index)
        return *found, image, logits[:, 0].sigmoid()

    def _classify(self, maps: Sequence[Tensor], boxes: Tensor, proposed: Tensor, size: tuple[int, int]) -> Candidates:
        """Proposals (B, R, 4) and their scores (B, R) -> candidates (B, C * R) that NMS keeps."""
        (B, R), total = boxes.shape[:2], None
        for stage, (head, crop) in enumerate(zip(self.heads, self.crop, strict=True)):
            image = torch.arange(B, device=boxes.device)[:, None].expand(B, R).reshape(-1)
            logits, deltas = head(crop(maps, regions(image, boxes.reshape(-1, 4))))
            probabilities = activate(head, logits).reshape(B, R, -1)
            total = probabilities if total is None else total + probabilities
            deltas = deltas.reshape(B, R, -1, 4)
            if stage < len(self.heads) - 1:
                boxes = decode_deltas(head.bbox_coder, boxes, self._of_best(deltas, total), size)
        assert total is not None
        scores = (total / len(self.heads))[..., :-1].transpose(1, 2)  # (B, C, R), without the background
        scores = torch.where(proposed[:, None] > -0.5, scores, -1.0)
        boxes = decode_deltas(head.bbox_coder, boxes[:, :, None], deltas, size)  # (B, R, C or 1, 4)
        return self._suppress(boxes, scores)

    def _of_best(self, deltas: Tensor, probabilities: Tensor) -> Tensor:
        """deltas (B, R, C or 1, 4) -> (B, R, 4) of the best class."""
        if deltas.shape[2] == 1:
            return deltas[:, :, 0]
        label = probabilities[..., :-1].argmax(-1)
        return deltas.gather(2, label[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]

    def _suppress(self, boxes: Tensor, scores: Tensor) -> Candidates:
        """NMS in each class: boxes (B, R, C or 1, 4), scores (B, C, R) -> candidates (B, C * R), -1 if dropped."""
        B, C, R = scores.shape
        if boxes.shape[2] == 1:  # the same box for all classes
            keep = nms_mask(boxes[:, :, 0], scores, self.iou_threshold, self.score_threshold)
            boxes = boxes[:, None, :, 0].expand(B, C, R, 4)
        else:
            boxes = boxes.transpose(1, 2)
            keep = nms_mask(boxes.reshape(B * C, R, 4), scores.reshape(B * C, 1, R), self.iou_threshold,
                            self.score_threshold).reshape(B, C, R)
        labels = torch.arange(C, device=scores.device)[:, None].expand(B, C, R)
        return Candidates(boxes.reshape(B, C * R, 4), torch.where(keep, scores, -1.0).reshape(B, C * R),
                          labels.reshape(B, C * R))


def regions(image: Tensor, boxes: Tensor) -> Tensor:
    """image (N,) and boxes (N, 4) -> (N, 5), the form that RoIAlign takes."""
    return torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)


def activate(head: Any, logits: Tensor) -> Tensor:
    """Logits (N, C + 1) of a box head -> probabilities; the last column is the background."""
    return head.loss_cls.get_activation(logits) if head.custom_activation else logits.softmax(-1)


def select(candidates: Candidates, most: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """The `most` best candidates of each image, and less if there are fewer.

    Returns:
        Boxes (n, 4), scores (n,) and labels (n,), and the index of the image (n,) of each, in ascending order; in an
        image by descending score.
    """
    scores, index = best(candidates.scores, most)
    boxes, labels = take(candidates.boxes, index), take(candidates.labels, index)
    image, place = (scores > -0.5).nonzero().unbind(1)
    return (boxes[image, place], scores[image, place], labels[image, place]), image
