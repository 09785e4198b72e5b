"""Cascade R-CNN as detectron2 trains ViTDet with it, where mmdet's differs."""
from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import CascadeRoIHead as MMDetCascadeRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mae_backbone.registry import MODELS

_TINY = 1e-12  # keeps logarithms finite


@MODELS.register_module()
class CascadeRoIHead(MMDetCascadeRoIHead):
    """mmdet's head with detectron2's habits (`CascadeROIHeads`); its config is that of Mask R-CNN but for the boxes.

    Of mmdet's it differs in four points. There is one mask head, trained on the boxes of the first stage, not three
    whose masks are averaged. The losses of all stages count alike, and instead the gradient that a stage sends into the
    features is divided by their number. In testing the probabilities of the stages are averaged, not their logits. The
    config has samplers that leave all boxes of the first stage to the later ones (`PseudoSampler`). One difference
    stays: annotated boxes that are mixed into the proposals do not go on to the second stage.

    Args:
        num_stages: of box heads.
        options: as in mmdet's; `mask_roi_extractor` and `mask_head` are one each.
    """

    def __init__(self, num_stages: int = 3, **options) -> None:
        super().__init__(num_stages=num_stages, stage_loss_weights=[1.0] * num_stages, **options)

    def init_mask_head(self, mask_roi_extractor: dict, mask_head: dict) -> None:
        """Builds the one mask head."""
        self.mask_head = MODELS.build(mask_head)
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)

    def mask_loss(self, stage: int, x: tuple[Tensor, ...], sampling_results: list[SamplingResult],
                  batch_gt_instances: list[InstanceData]) -> dict:
        """Loss of the masks of the first stage's boxes; nothing for the other stages."""
        if stage:
            return dict(loss_mask={})
        predictions = self._mask_forward(stage, x, bbox2roi([result.pos_priors for result in sampling_results]))
        return self.mask_head.loss_and_target(
            mask_preds=predictions['mask_preds'], sampling_results=sampling_results,
            batch_gt_instances=batch_gt_instances, rcnn_train_cfg=self.train_cfg[stage])

    def predict_mask(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], results_list: list[InstanceData],
                     rescale: bool = False) -> list[InstanceData]:
        """Adds masks to the boxes found in each image."""
        rois = bbox2roi([result.bboxes for result in results_list])
        if not len(rois):
            return empty_instances(batch_img_metas, rois.device, task_type='mask', instance_results=results_list,
                                   mask_thr_binary=self.test_cfg.mask_thr_binary)
        masks = self._mask_forward(0, x, rois)['mask_preds'].split([len(result) for result in results_list])
        return self.mask_head.predict_by_feat(mask_preds=masks, results_list=results_list,
                                              batch_img_metas=batch_img_metas, rcnn_test_cfg=self.test_cfg,
                                              rescale=rescale)

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Scores and deltas of one stage for rois (N, 5) of an image index and a box."""
        extractor = self.bbox_roi_extractor[stage]
        features = _ScaleGradient.apply(extractor(x[:extractor.num_inputs], rois), 1 / self.num_stages)
        scores, deltas = self.bbox_head[stage](features)
        return dict(cls_score=scores, bbox_pred=deltas, bbox_feats=features)

    def _mask_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Masks for rois (N, 5), the same head for all stages."""
        return dict(mask_preds=self.mask_head(self.mask_roi_extractor(x[:self.mask_roi_extractor.num_inputs], rois)))

    def _refine_roi(self, x: tuple[Tensor, ...], rois: Tensor, batch_img_metas: list[dict],
                    num_proposals_per_img: Sequence[int],
                    ) -> tuple[tuple[Tensor, ...], list[Tensor], tuple[Tensor, ...]]:
        """rois (N, 5) of all images -> for each image its last rois, scores over all stages, and last deltas.

        The scores are such that the last head's own activation makes of them the mean probability of the stages.
        """
        total, counts = 0.0, list(num_proposals_per_img)
        for stage, head in enumerate(self.bbox_head):
            results = self._bbox_forward(stage, x, rois)
            total = total + _probabilities(head, results['cls_score'])
            split, deltas = rois.split(counts), results['bbox_pred'].split(counts)
            if stage < self.num_stages - 1:
                labels = total[:, :-1].argmax(1).split(counts)  # of use to heads with boxes for each class alone
                rois = torch.cat([
                    torch.cat([roi[:, :1], head.regress_by_class(roi[:, 1:], label, delta, meta)], dim=1)
                    for roi, label, delta, meta in zip(split, labels, deltas, batch_img_metas, strict=True)
                    if len(roi)])
        return split, list(_scores(self.bbox_head[-1], total / self.num_stages).split(counts)), deltas


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, features: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


def _probabilities(head: nn.Module, scores: Tensor) -> Tensor:
    """scores (N, classes + 1) of a head -> probabilities of the same shape."""
    return head.loss_cls.get_activation(scores) if head.custom_activation else scores.softmax(1)


def _scores(head: nn.Module, probabilities: Tensor) -> Tensor:
    """The inverse of `_probabilities`: logits of a sigmoid where the head has an activation of its own."""
    log = probabilities.clamp(min=_TINY).log()
    return log - (1 - probabilities).clamp(min=_TINY).log() if head.custom_activation else log
