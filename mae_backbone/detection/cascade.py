"""Cascade R-CNN as in detectron2's ViTDet, where it differs from mmdet's."""
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead as MMDetCascadeRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mae_backbone.registry import MODELS

_EPSILON = 1e-12  # keeps logarithms finite


@MODELS.register_module()
class CascadeRoIHead(MMDetCascadeRoIHead):
    """mmdet's `CascadeRoIHead` with the behavior of detectron2's `CascadeROIHeads`.

    It differs from mmdet's in four points:

    - One mask head is trained on the boxes of the first stage, instead of averaging three mask heads.
    - The losses of all stages have equal weights. Instead, the gradient that each stage sends into the features is
      divided by the number of stages.
    - In testing, the probabilities of the stages are averaged, not their logits.
    - The samplers in the config pass all boxes of the first stage on to the later stages (`PseudoSampler`).

    One difference to detectron2 remains: annotated boxes that are added to the proposals of the first stage are not
    passed on to the second stage.

    Args:
        num_stages: number of box heads.
        options: arguments of mmdet's `CascadeRoIHead`, with a single `mask_roi_extractor` and `mask_head`.
    """

    def __init__(self, num_stages: int = 3, **options: Any) -> None:
        super().__init__(num_stages=num_stages, stage_loss_weights=[1.0] * num_stages, **options)

    def init_mask_head(self, mask_roi_extractor: dict, mask_head: dict) -> None:
        """Builds the single mask head."""
        self.mask_head = MODELS.build(mask_head)
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)

    def mask_loss(self, stage: int, x: tuple[Tensor, ...], sampling_results: list[SamplingResult],
                  batch_gt_instances: list[InstanceData]) -> dict:
        """Computes the mask loss for the boxes of the first stage; an empty dict for the other stages."""
        if stage:
            return dict(loss_mask={})
        predictions = self._mask_forward(stage, x, bbox2roi([result.pos_priors for result in sampling_results]))
        return self.mask_head.loss_and_target(
            mask_preds=predictions['mask_preds'], sampling_results=sampling_results,
            batch_gt_instances=batch_gt_instances, rcnn_train_cfg=self.train_cfg[stage])

    def predict_mask(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], results_list: list[InstanceData],
                     rescale: bool = False) -> list[InstanceData]:
        """Adds masks to the detected boxes of each image."""
        rois = bbox2roi([result.bboxes for result in results_list])
        if not len(rois):
            return empty_instances(batch_img_metas, rois.device, task_type='mask', instance_results=results_list,
                                   mask_thr_binary=self.test_cfg.mask_thr_binary)
        masks = self._mask_forward(0, x, rois)['mask_preds'].split([len(result) for result in results_list])
        return self.mask_head.predict_by_feat(mask_preds=masks, results_list=results_list,
                                              batch_img_metas=batch_img_metas, rcnn_test_cfg=self.test_cfg,
                                              rescale=rescale)

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Returns scores and deltas of a stage for rois (N, 5), each an image index and a box."""
        extractor = self.bbox_roi_extractor[stage]
        features = _ScaleGradient.apply(extractor(x[:extractor.num_inputs], rois), 1 / self.num_stages)
        scores, deltas = self.bbox_head[stage](features)
        return dict(cls_score=scores, bbox_pred=deltas, bbox_feats=features)

    def _mask_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Returns mask logits for rois (N, 5); all stages share one mask head."""
        return dict(mask_preds=self.mask_head(self.mask_roi_extractor(x[:self.mask_roi_extractor.num_inputs], rois)))

    def _refine_roi(self, x: tuple[Tensor, ...], rois: Tensor, batch_img_metas: list[dict],
                    num_proposals_per_img: Sequence[int],
                    ) -> tuple[tuple[Tensor, ...], list[Tensor], tuple[Tensor, ...]]:
        """rois (N, 5) of all images -> per image: its rois in the last stage, scores over all stages, last deltas.

        The activation of the last head turns the scores into the mean probability over the stages.
        """
        totals: list[Tensor] = []  # sums of probabilities after each stage
        counts = list(num_proposals_per_img)
        for stage, head in enumerate(self.bbox_head):
            results = self._bbox_forward(stage, x, rois)
            probabilities = _probabilities(head, results['cls_score'])
            totals.append(totals[-1] + probabilities if totals else probabilities)
            split, deltas = rois.split(counts), results['bbox_pred'].split(counts)
            if stage < self.num_stages - 1:
                labels = totals[-1][:, :-1].argmax(1).split(counts)  # read by heads with boxes per class only
                rois = torch.cat([
                    torch.cat([roi[:, :1], head.regress_by_class(roi[:, 1:], label, delta, meta)], dim=1)
                    for roi, label, delta, meta in zip(split, labels, deltas, batch_img_metas, strict=True)
                    if len(roi)])
        return split, list(_scores(self.bbox_head[-1], totals[-1] / self.num_stages).split(counts)), deltas


class _ScaleGradient(torch.autograd.Function):
    """Identity that multiplies its gradient by a factor."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def _probabilities(head: Any, scores: Tensor) -> Tensor:
    """Scores (N, num_classes + 1) of a box head -> probabilities of the same shape."""
    return head.loss_cls.get_activation(scores) if head.custom_activation else scores.softmax(1)


def _scores(head: nn.Module, probabilities: Tensor) -> Tensor:
    """Inverts `_probabilities`: logits of a sigmoid if the head has its own activation, else of a softmax."""
    log = probabilities.clamp(min=_EPSILON).log()
    return log - (1 - probabilities).clamp(min=_EPSILON).log() if head.custom_activation else log
