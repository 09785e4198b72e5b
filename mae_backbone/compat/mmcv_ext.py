"""Replacements for `mmcv._ext`: the ops that the standard heads of mmdet and mmseg call, on top of torchvision.

`mmcv_ops` serves this file under that name; do not import it directly. Signatures are the same as
in mmcv's C++ (mmcv/ops/csrc/pytorch/pybind.cpp), including outputs that are filled in place, because mmcv's Python
wrappers call these functions.
Any other op can be imported by name and raises OpNotCompiledError when it is called.

Half precisions are computed in float32 and rounded once, into the tensor that the wrapper allocated. Autocast makes no
difference: it lowers none of the operations below.

Shapes: N boxes (x1, y1, x2, y2) in pixels, K regions (image index, x1, y1, x2, y2) in pixels, C channels or classes.
"""
from collections.abc import Callable
from typing import NoReturn

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor
from torch.nn import functional as F

from mae_backbone.compat.mmcv_ops import OpNotCompiledError

AVERAGE = 1  # roi_align's pool_mode
IOU = 0  # bbox_overlaps' mode
NAIVE, LINEAR = 0, 1  # softnms' method; 2 is gaussian


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """An op without a replacement. It can be imported; calling it raises an error that names it."""
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def missing(*args: object, **kwargs: object) -> NoReturn:
        _refuse(name)

    return missing


def _refuse(op: str) -> NoReturn:
    raise OpNotCompiledError(f'{op} of mmcv.ops needs an mmcv with compiled ops. This mmcv has none, and '
                             'mae_backbone has no replacement for this op: choose a model or option that does not call '
                             'it, or build onedl-mmcv with its ops (pip install --no-build-isolation, a long compile)')


def get_compiler_version() -> str:
    return 'not compiled: replacements of mae_backbone'


get_compiling_cuda_version = get_compiler_version


def _float(tensor: Tensor) -> Tensor:
    """Casts everything but float64 to float32, which torchvision's kernels support on every device."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


# ---- boxes

def _overlaps(a: Tensor, b: Tensor, offset: int, *, of_union: bool = True) -> Tensor:
    """Intersection over union of boxes a and b (..., 4), which broadcast, or intersection over the area of a.

    Sides are x2 - x1 + offset. The result is 0 for boxes without area, for which mmcv's C++ divides 0 by 0.
    """
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + offset
    shared = sides.clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2] + offset).prod(-1) for box in (a, b))
    return (shared / (area_a + area_b - shared if of_union else area_a)).nan_to_num(0)


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Fills `ious` with the overlaps of bboxes1 (N, 4) and bboxes2 (M, 4): (N, M), or (N,) for aligned pairs."""
    boxes1, boxes2 = _float(bboxes1), _float(bboxes2)
    ious.copy_(_overlaps(boxes1 if aligned else boxes1[:, None], boxes2, offset, of_union=mode == IOU))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes (N, 4) that NMS keeps, by descending score. Boxes with IoU > iou_threshold are dropped."""
    boxes = _float(boxes)
    if offset:  # moving the lower right corner gives the same sides, x2 - x1 + offset
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    # mmcv's C++ takes the threshold as float32, torchvision as float64: an IoU of exactly 0.3 must not exceed 0.3.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return torch.ops.torchvision.nms(boxes, scores.to(boxes.dtype), threshold)


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float, sigma: float, min_score: float,
            method: int, offset: int) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017). mmcv's wrapper moves the tensors to the CPU.

    Fills the first rows of `dets` (N, 5) with the kept boxes and their decayed scores, and returns their indices.
    """
    boxes, scores, left = _float(boxes), _float(scores).clone(), torch.arange(len(boxes))
    kept: list[Tensor] = []
    while len(left):
        best = scores[left].argmax()
        index, left = left[best], torch.cat([left[:best], left[best + 1:]])
        dets[len(kept)] = torch.cat([boxes[index], scores[index, None]])
        kept.append(index)
        scores[left] *= _decay(_overlaps(boxes[index], boxes[left], offset), iou_threshold, sigma, method)
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def _decay(iou: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    """Factor by which the score of a box decays if a box with a higher score overlaps it by `iou`."""
    if method == NAIVE:
        return (iou < iou_threshold).to(iou.dtype)
    if method == LINEAR:
        return torch.where(iou < iou_threshold, 1, 1 - iou)
    return torch.exp(-iou.square() / sigma)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups of the boxes in dets (N, 5): a box that NMS keeps, then the boxes that it suppresses, by score."""
    boxes, left, groups = _float(dets[:, :4]), dets[:, 4].argsort(descending=True, stable=True), []
    while len(left):
        dropped = _overlaps(boxes[left[0]], boxes[left], 0) >= iou_threshold
        dropped[0] = True  # a box without area has IoU 0 with itself
        groups.append(left[dropped].tolist())
        left = left[~dropped]
    return groups


# ---- regions of feature maps

def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """features (B, C, H, W), rois (K, 5) -> fills `output` (K, C, aligned_height, aligned_width)."""
    if pool_mode != AVERAGE:
        _refuse("roi_align with pool_mode='max'")
    features = _float(features)
    output.copy_(torch.ops.torchvision.roi_align(features, rois.to(features.dtype), spatial_scale, aligned_height,
                                                 aligned_width, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Fills `grad_input` (B, C, H, W). On CUDA it is not deterministic, like mmcv's kernel."""
    grad_output = _float(grad_output)
    grad_input.copy_(torch.ops.torchvision._roi_align_backward(
        grad_output, rois.to(grad_output.dtype), spatial_scale, aligned_height, aligned_width, *grad_input.shape,
        sampling_ratio, aligned))


# ---- focal loss (Lin et al., ICCV 2017, section 3.2), per element of the logits (N, C)

def sigmoid_focal_loss_forward(logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """-alpha (1 - p)^gamma log p for the class `target` (N,), -(1 - alpha) p^gamma log(1 - p) for all others.

    A target outside of 0 .. C - 1 is background. The result is exact for any logit, whereas mmcv's kernel clamps the
    argument of the logarithm at FLT_MIN.
    """
    is_target, log_p, log_q = _focal_terms(logits, target, weight)
    output.copy_(torch.where(is_target, -alpha * (gamma * log_q).exp() * log_p,
                             (alpha - 1) * (gamma * log_p).exp() * log_q))


def sigmoid_focal_loss_backward(logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Derivative of each element of the loss with respect to its logit."""
    is_target, log_p, log_q = _focal_terms(logits, target, weight)
    p, q = log_p.exp(), log_q.exp()
    grad_input.copy_(torch.where(is_target, -alpha * (gamma * log_q).exp() * (q - gamma * p * log_p),
                                 (alpha - 1) * (gamma * log_p).exp() * (gamma * q * log_q - p)))


def _focal_terms(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """True if a class is the target (N, C), and log p and log(1 - p) for p = sigmoid(logits)."""
    if weight.numel():
        _refuse('sigmoid_focal_loss with class weights')
    logits = _float(logits)
    is_target = target[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return is_target, F.logsigmoid(logits), F.logsigmoid(-logits)


# ---- deformable attention (Zhu et al., ICLR 2021), which mmcv calls here for CUDA tensors only

def ms_deform_attn_forward(value: Tensor, shapes: Tensor, level_start: Tensor, locations: Tensor, weights: Tensor,
                           im2col_step: int) -> Tensor:
    """Calls mmcv's `multi_scale_deformable_attn_pytorch`; shapes are the same."""
    # Imported here because mmcv.ops imports this file.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    inputs = _float(value), shapes.tolist(), _float(locations), _float(weights)
    return multi_scale_deformable_attn_pytorch(*inputs).to(value.dtype)


def ms_deform_attn_backward(value: Tensor, shapes: Tensor, level_start: Tensor, locations: Tensor, weights: Tensor,
                            grad_output: Tensor, grad_value: Tensor, grad_locations: Tensor, grad_weights: Tensor,
                            im2col_step: int) -> None:
    """Fills the three gradients by running the forward pass again."""
    inputs = [_float(tensor).detach().requires_grad_() for tensor in (value, locations, weights)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(inputs[0], shapes, level_start, inputs[1], inputs[2], im2col_step)
    grads = torch.autograd.grad(output, inputs, grad_output.to(output.dtype))
    for filled, grad in zip((grad_value, grad_locations, grad_weights), grads, strict=True):
        filled.copy_(grad)
