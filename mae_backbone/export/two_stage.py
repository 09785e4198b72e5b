"""Test-time path of Faster, Mask and Cascade R-CNN as one graph: pyramid -> proposals -> boxes -> masks.

It restates mmdet's `predict` with shapes that do not depend on the data up to the last step, and shares its weights.

Shapes: B images, R proposals of an image, C classes, n objects found in all images.
"""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mae_backbone.export.boxes import Candidates, best, decode_deltas, grid_anchors, is_larger, take
from mae_backbone.export.nms import nms_mask
from mae_backbone.export.regions import RegionFeatures


class Proposals(nn.Module):
    """Region proposal network: the best boxes of each level, then NMS in each level.

    Args:
        head: mmdet's `RPNHead` with its `test_cfg`.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, cfg = head, head.test_cfg
        self.before, self.after = cfg.nms_pre, cfg.max_per_img
        self.iou_threshold, self.smallest = cfg.nms.iou_threshold, cfg.get('min_bbox_size', -1)
        for i, base in enumerate(head.prior_generator.base_anchors):
            self.register_buffer(f'anchors_{i}', base.clone(), persistent=False)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """maps (B, D, h, w) of each level -> boxes (B, R, 4) within `size` (H, W), scores (B, R), -1 for no box."""
        levels = [self._level(i, *self.head.forward_single(level), size) for i, level in enumerate(maps)]
        boxes, scores = torch.cat([boxes for boxes, _ in levels], 1), torch.cat([scores for _, scores in levels], 1)
        scores, index = best(scores, self.after)
        return take(boxes, index), scores

    def _level(self, i: int, logits: Tensor, deltas: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4) of a level and their scores (B, N), -1 for those that NMS drops."""
        B, _, h, w = logits.shape
        anchors = grid_anchors(getattr(self, f'anchors_{i}'), (h, w), self.head.prior_generator.strides[i])
        logits = logits.permute(0, 2, 3, 1).reshape(B, anchors.shape[0], -1)
        scores = logits[..., 0].sigmoid() if self.head.use_sigmoid_cls else logits.softmax(-1)[..., 0]
        scores, index = best(scores, self.before)
        deltas = take(deltas.permute(0, 2, 3, 1).reshape(B, anchors.shape[0], 4), index)
        boxes = decode_deltas(self.head.bbox_coder, anchors[index], deltas, size)
        if self.smallest >= 0:
            scores = torch.where(is_larger(boxes, self.smallest), scores, -1.0)
        keep = nms_mask(boxes, scores[:, None], self.iou_threshold, -0.5)[:, 0]
        return boxes, torch.where(keep, scores, -1.0)


class TwoStage(nn.Module):
    """Proposals, and the boxes, labels and masks that the heads predict for them.

    Args:
        rpn_head, roi_head: mmdet's, with their `test_cfg`. The RoI head of Cascade R-CNN is ours.
    """

    def __init__(self, rpn_head: nn.Module, roi_head: nn.Module) -> None:
        super().__init__()
        self.proposals = Proposals(rpn_head)
        heads = roi_head.bbox_head
        cascade = isinstance(heads, nn.ModuleList)
        self.heads = heads if cascade else nn.ModuleList([heads])
        extractors = roi_head.bbox_roi_extractor if cascade else [roi_head.bbox_roi_extractor]
        self.crop = nn.ModuleList(map(RegionFeatures, extractors))
        cfg = roi_head.test_cfg
        self.score_threshold, self.iou_threshold, self.most = cfg.score_thr, cfg.nms.iou_threshold, cfg.max_per_img
        self.mask_head = self.crop_masks = None
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


def activate(head: nn.Module, logits: Tensor) -> Tensor:
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
