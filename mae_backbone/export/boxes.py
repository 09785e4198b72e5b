"""Anchors, points and boxes for images of any size, as pure functions that torch.export can trace.

Shapes: B images, S levels, K or N boxes, h w places of a feature map, A anchors at each place. Boxes are x1, y1, x2, y2
in pixels.
"""
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mae_backbone.core.exporting import is_exporting

_SIDE_RATIO = 16 / 1000  # mmdet, `DeltaXYWHBBoxCoder.decode`: limits by how much a side may grow or shrink


class Candidates(NamedTuple):
    """Boxes of each image before NMS."""

    boxes: Tensor   # (B, N, 4)
    scores: Tensor  # (B, N), -1 where there is no box
    labels: Tensor  # (B, N) int64


def corners(place: Tensor, widths: Sequence[int], strides: Tensor, offset: float = 0.0) -> Tensor:
    """Points (B, S, K, 2), x and y in pixels, of some places on the maps of S levels.

    Args:
        place: (B, S, K) int64, row * width + column.
        widths: of the map of each level.
        strides: (S, 2), x and y in pixels.
        offset: of the first point, as a fraction of the stride.
    """
    width = torch.stack([torch.full((1,), width, device=place.device) for width in widths])  # (S, 1)
    grid = torch.stack([place % width, place // width], dim=-1)
    return (grid.to(strides.dtype) + offset) * strides[:, None]


def anchors(index: Tensor, widths: Sequence[int], strides: Tensor, base: Tensor) -> Tensor:
    """Anchors (B, S, K, 4) of S levels.

    Args:
        index: (B, S, K) int64, place by place, all anchors of a place one after another.
        widths, strides: as in `corners`.
        base: (S, A, 4), the anchors of each level around the origin.
    """
    A = base.shape[1]
    level = torch.arange(base.shape[0], device=index.device)[:, None]
    corner = corners(index // A, widths, strides)
    return torch.cat([corner, corner], dim=-1) + base[level, index % A]


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
    """True if both sides of boxes (..., 4) are longer than `side` pixels."""
    return ((boxes[..., 2:] - boxes[..., :2]) > side).all(-1)


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """scores (B, N) -> the `count` highest ones of each image, or all if there are fewer, and their indices.

    Of equal scores the first ones are taken, as ONNX's TopK does. PyTorch's `topk` takes any of them.
    """
    # Filled up, since the number may be larger than N for small images, and must not depend on the size of the image.
    filled = torch.cat([scores, scores.new_full((scores.shape[0], count), -1.0)], dim=1)
    if is_exporting():
        values, index = filled.topk(count, dim=1)
    else:
        values, index = (one[:, :count] for one in filled.sort(dim=1, descending=True, stable=True))
    return values, index.clamp(max=scores.shape[1] - 1)


def take(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, ...) and index (B, K) -> (B, K, ...)."""
    if values.ndim == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
