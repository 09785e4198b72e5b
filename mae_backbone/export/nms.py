"""Non-maximum suppression (NMS) as an operation with an output of fixed shape, and its translation to ONNX.

torchvision's `nms` returns as many indices as boxes are kept. A mask over all boxes has a shape that does not depend on
the data, so that one graph serves any batch.
"""
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor


@torch.library.custom_op('mae_backbone::nms_mask', mutates_args=())
def nms_mask(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    """Marks the boxes that NMS keeps, in each of G groups and C classes independently.

    It is ONNX's NonMaxSuppression, with a mask instead of indices. The IoU is compared in float32, as mmcv's C++ and
    onnxruntime do.

    Args:
        boxes: (G, N, 4), x1, y1, x2, y2.
        scores: (G, C, N).
        iou_threshold: boxes that overlap a kept box of the same group and class by more are dropped.
        score_threshold: boxes with this score or a lower one are dropped before.

    Returns:
        (G, C, N) bool.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    candidates = scores > score_threshold
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    for group, label in candidates.any(2).nonzero().tolist():
        index = candidates[group, label].nonzero()[:, 0]
        kept = torchvision.ops.nms(boxes[group, index], scores[group, label, index], threshold)
        keep[group, label, index[kept]] = True
    return keep


@nms_mask.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_translations() -> dict[Callable, Callable]:
    """Translations of the operations of this file, for `custom_translation_table` of `torch.onnx.export`."""
    import onnx_ir
    from onnxscript import opset18
    op: Any = opset18

    def translate(boxes: Any, scores: Any, iou_threshold: float, score_threshold: float) -> Any:
        shape = op.Shape(scores)
        most = op.Slice(shape, [2], [3])  # boxes for each class: all
        kept = op.NonMaxSuppression(boxes, scores, most, op.Constant(value_floats=[iou_threshold]),
                                    op.Constant(value_floats=[score_threshold]))  # (kept, 3): group, class, box
        ones = op.Expand(op.Constant(value_floats=[1.0]), op.Shape(kept, end=1))
        mask = op.ScatterND(op.Expand(op.Constant(value_floats=[0.0]), shape), kept, ones)
        return op.Cast(mask, to=onnx_ir.DataType.BOOL)

    return {torch.ops.mae_backbone.nms_mask.default: translate}
