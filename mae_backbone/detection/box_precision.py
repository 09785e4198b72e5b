"""Heads and RoI extraction that keep boxes in float32 if the feature maps are bfloat16 or float16.

bfloat16 has 8 significant bits: a coordinate of 601.3 pixels becomes 600. Under autocast mmdet casts RoIs, and the
anchors and points from which boxes are decoded, to the dtype of the feature maps. These classes cast the maps instead.
In float32 they compute exactly what mmdet's classes of the same names compute.
"""
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import FCOSHead as MMDetFCOSHead
from mmdet.models.dense_heads import RPNHead as MMDetRPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor as MMDetSingleRoIExtractor
from torch import Tensor

from mae_backbone.registry import MODELS


@MODELS.register_module()
class SingleRoIExtractor(MMDetSingleRoIExtractor):
    """mmdet's `SingleRoIExtractor`, which crops at the coordinates that it is given, in any precision of the maps.

    The maps are pooled in float32, and the result is rounded once to the dtype of the maps. A gradient of a map in
    bfloat16 is accumulated in float32, too.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """maps (B, C, h, w) of each level and rois (N, 5), each an image index and a box -> (N, C, size, size)."""
        return super().forward(tuple(map(_precise, feats)), _precise(rois), roi_scale_factor).to(feats[0].dtype)


class _PreciseBoxes:
    """Base of the heads: decodes boxes in float32."""

    def predict_by_feat(self, *maps: Sequence[Tensor], **options: Any) -> Any:
        """Decodes the maps of a head, one list of levels for scores, deltas and so on, as mmdet's head does."""
        predict: Any = super()
        return predict.predict_by_feat(*([_precise(level) for level in levels] for levels in maps), **options)


@MODELS.register_module()
class RPNHead(_PreciseBoxes, MMDetRPNHead):
    """mmdet's `RPNHead` that decodes proposals from anchors in float32, in training and testing."""


@MODELS.register_module()
class FCOSHead(_PreciseBoxes, MMDetFCOSHead):
    """mmdet's `FCOSHead` that decodes boxes from points in float32."""


def _precise(x: Tensor) -> Tensor:
    """x in float32, or in float64 if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
