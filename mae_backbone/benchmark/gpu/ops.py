"""Replacements for mmcv's ops, in each precision on the device, against float64 on the CPU."""
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.measure import attempt, relative_error
from mae_backbone.compat import mmcv_ext

# Inputs are rounded to the precision before both sides compute. The difference is the rounding of the result.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}
BOXES, CHANNELS, CLASSES = 200, 8, 9
_POOL = (7, 7, 1 / 16, 0, mmcv_ext.AVERAGE, True)  # height, width, scale, sampling ratio, mode, aligned
Figures = dict[str, float | bool]


class Inputs(NamedTuple):
    """Random inputs of the ops, in one precision."""

    boxes: Tensor     # (N, 4) in pixels
    scores: Tensor    # (N,)
    features: Tensor  # (2, C, 64, 64), at a sixteenth of the resolution
    rois: Tensor      # (N, 5) image and box
    logits: Tensor    # (N, classes)
    target: Tensor    # (N,), `classes` is background


def stand_ins(settings: Settings) -> Rows:
    """RoIAlign, NMS, overlaps of boxes, focal loss and deformable attention."""
    for dtype, limit in LIMITS.items():
        inputs = random_inputs(dtype)
        for op in (roi_align, nms, overlaps, focal_loss, deformable_attention):
            figures = attempt(partial(op, inputs, settings.device, limit))
            yield f'{op.__name__.replace("_", " ")}, {str(dtype).removeprefix("torch.")}', figures


def random_inputs(dtype: torch.dtype) -> Inputs:
    """The same inputs in every call, rounded to `dtype`, on the CPU."""
    torch.manual_seed(0)
    corners = torch.rand(BOXES, 2) * 500
    boxes = torch.cat([corners, corners + torch.rand(BOXES, 2) * 300 + 1], dim=1).to(dtype)
    scores = torch.randperm(BOXES) / BOXES  # without ties, whose order is not defined
    rois = torch.cat([torch.randint(2, (BOXES, 1)), boxes.float()], dim=1)
    return Inputs(boxes, scores, torch.randn(2, CHANNELS, 64, 64).to(dtype), rois,
                  torch.randn(BOXES, CLASSES).to(dtype), torch.randint(CLASSES + 1, (BOXES,)))


def roi_align(inputs: Inputs, device: str, limit: float) -> Figures:
    """Values, and the gradient of the features."""
    features, none = inputs.features, torch.empty(0)
    gradient = torch.randn(BOXES, CHANNELS, 7, 7).to(features.dtype)

    def pooled(features: Tensor, gradient: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        output, grad = torch.empty_like(gradient), torch.empty_like(features)
        mmcv_ext.roi_align_forward(features, rois, output, none, none, *_POOL)
        mmcv_ext.roi_align_backward(gradient, rois, none, none, grad, *_POOL)
        return output, grad
    values = pooled(features.to(device), gradient.to(device), inputs.rois.to(device))
    return _within(values, pooled(features.double(), gradient.double(), inputs.rois.double()), limit)


def nms(inputs: Inputs, device: str, limit: float) -> Figures:
    """Returns the kept boxes in their order."""
    kept = mmcv_ext.nms(inputs.boxes.to(device), inputs.scores.to(device), 0.5, 0)
    expected = mmcv_ext.nms(inputs.boxes.double(), inputs.scores.double(), 0.5, 0)
    return {'kept': float(len(kept)), 'ok': kept.tolist() == expected.tolist()}


def overlaps(inputs: Inputs, device: str, limit: float) -> Figures:
    """Intersection over union of all pairs."""
    def of(boxes: Tensor) -> Tensor:
        ious = boxes.new_empty(BOXES, BOXES)
        mmcv_ext.bbox_overlaps(boxes, boxes, ious, mmcv_ext.IOU, False, 0)
        return ious
    return _within((of(inputs.boxes.to(device)),), (of(inputs.boxes.double()),), limit)


def focal_loss(inputs: Inputs, device: str, limit: float) -> Figures:
    """Loss of each logit, and its derivative."""
    def losses(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        loss, grad, unweighted = torch.empty_like(logits), torch.empty_like(logits), torch.empty(0)
        mmcv_ext.sigmoid_focal_loss_forward(logits, target, unweighted, loss, 2.0, 0.25)
        mmcv_ext.sigmoid_focal_loss_backward(logits, target, unweighted, grad, 2.0, 0.25)
        return loss, grad
    return _within(losses(inputs.logits.to(device), inputs.target.to(device)),
                   losses(inputs.logits.double(), inputs.target), limit)


def deformable_attention(inputs: Inputs, device: str, limit: float) -> Figures:
    """Values, and the gradient of the sampled values. Needs mmcv, which computes it."""
    shapes = torch.tensor([[8, 8], [4, 4]])
    dtype = inputs.features.dtype
    value, locations = torch.randn(2, 80, 2, 8).to(dtype), torch.rand(2, 30, 2, 2, 4, 2).to(dtype)
    weights, gradient = torch.rand(2, 30, 2, 2, 4).to(dtype), torch.randn(2, 30, 16).to(dtype)

    def attend(device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        level_start = torch.tensor([0, 64], device=device)
        v, at, w, g = (x.to(device, dtype) for x in (value, locations, weights, gradient))
        output = mmcv_ext.ms_deform_attn_forward(v, shapes.to(device), level_start, at, w, 64)
        grad_v, grad_at, grad_w = (torch.empty_like(x) for x in (v, at, w))
        mmcv_ext.ms_deform_attn_backward(v, shapes.to(device), level_start, at, w, g, grad_v, grad_at, grad_w, 64)
        return output, grad_v
    return _within(attend(device, dtype), attend('cpu', torch.float64), limit)


def _within(values: tuple[Tensor, ...], expected: tuple[Tensor, ...], limit: float) -> Figures:
    errors = [relative_error(a, b) for a, b in zip(values, expected, strict=True)]
    named = dict(zip(('relative error', 'of the gradient'), errors, strict=False))
    return {**named, 'limit': limit, 'ok': max(errors) <= limit}
