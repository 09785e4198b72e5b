"""Anchors, points and boxes for images of any size, as pure functions that torch.export can trace.

Shapes: B images, N boxes, h w places of a feature map, A anchors at each place. Boxes are x1, y1, x2, y2 in pixels.
"""
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_SIDE_RATIO = 16 / 1000  # mmdet, `DeltaXYWHBBoxCoder.decode`: limits by how much a side may grow or shrink


class Candidates(NamedTuple):
    """Boxes of each image before NMS."""

    boxes: Tensor   # (B, N, 4)
    scores: Tensor  # (B, N), -1 where there is no box
    labels: Tensor  # (B, N) int64


def grid_points(size: tuple[int, int], stride: tuple[float, float], offset: float, like: Tensor) -> Tensor:
    """Points (h*w, 2), x and y in pixels, of a map of `size` (h, w), row by row.

    Args:
        size: of the map.
        stride: (x, y) in pixels.
        offset: of the first point, as a fraction of the stride.
        like: a tensor of the same device and dtype.
    """
    (h, w), (stride_x, stride_y) = size, stride
    x = (torch.arange(w, device=like.device).to(like.dtype) + offset) * stride_x
    y = (torch.arange(h, device=like.device).to(like.dtype) + offset) * stride_y
    return torch.stack([x[None, :].expand(h, w), y[:, None].expand(h, w)], dim=-1).reshape(h * w, 2)


def grid_anchors(base: Tensor, size: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """base (A, 4), anchors around the origin -> anchors (h*w*A, 4) at each place of a map, place by place."""
    places = grid_points(size, stride, 0.0, base)
    return (torch.cat([places, places], dim=1)[:, None] + base).reshape(-1, 4)


def decode_deltas(coder: Any, boxes: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
    """Moves boxes (..., 4) by deltas (..., 4), as the `DeltaXYWHBBoxCoder` of mmdet does, within (H, W)."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    corner, sides, largest = boxes[..., :2], boxes[..., 2:] - boxes[..., :2], abs(math.log(_SIDE_RATIO))
    center = (corner + boxes[..., 2:]) * 0.5 + sides * deltas[..., :2]
    half = sides * deltas[..., 2:].clamp(-largest, largest).exp() * 0.5
    moved = torch.cat([center - half, center + half], dim=-1)
    return clip(moved, size) if coder.clip_border else moved


def decode_distances(coder: Any, points: Tensor, distances: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) from points (..., 2) and the distances (..., 4) to their left, top, right and bottom sides."""
    boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
    return clip(boxes, size) if coder.clip_border else boxes


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Moves the corners of boxes (..., 4) into an image of `size` (H, W)."""
    H, W = size
    x, y = boxes[..., 0::2].clamp(0, W), boxes[..., 1::2].clamp(0, H)
    return torch.stack([x, y], dim=-1).flatten(-2)


def is_larger(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of boxes (..., 4) are longer than `side` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(-1)


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """scores (B, N) -> the `count` highest ones of each image, or all if there are fewer, and their indices."""
    # Filled up, since the number may be larger than N for small images, and must not depend on the size of the image.
    filled = torch.cat([scores, scores.new_full((scores.shape[0], count), -1.0)], dim=1)
    values, index = filled.topk(count, dim=1)
    return values, index.clamp(max=scores.shape[1] - 1)


def take(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, ...) and index (B, K) -> (B, K, ...)."""
    if values.ndim == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
