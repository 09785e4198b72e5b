"""Attention weights of an encoder for a point of an image."""
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import cv2
import numpy as np

from mae_backbone.core.vit import ViT
from mae_backbone.models.timm_attention import timm_attention_blocks
from mae_backbone.models.timm_vit import TimmViT
from mae_backbone.prediction.inputs import Source
from mae_backbone.prediction.typed_results import Figure
from mae_backbone.prediction.visualization import figure_scale


@dataclass(frozen=True, eq=False)
class AttentionResult(Figure):
    """Attention of the patch at a point of an image, in one block of an encoder.

    Attributes:
        source: the image and its path.
        pixels: (H, W, 3) uint8 RGB, the displayed image.
        point: (x, y) in pixels of the image.
        block: index of the block.
        weights: (heads, h, w) float32, attention of the patch to each patch.
        prefix: (heads,) float32, attention of the patch to the class token and registers; 0 if there are none.
    """

    source: Source
    pixels: np.ndarray
    point: tuple[float, float]
    block: int
    weights: np.ndarray
    prefix: np.ndarray

    @property
    def patch(self) -> tuple[int, int]:
        """(row, column) of the patch at `point`."""
        return patch_at(self.point, self.pixels.shape[:2], self.weights.shape[1:])

    def draw(self, head: int | None = None) -> np.ndarray:
        """Draws the weights over the image, from dark (low) to bright (high), and a frame around the patch at `point`.

        Args:
            head: index of a head; None for the mean over the heads.

        Returns:
            Figure (scale * H, scale * W, 3) uint8 RGB.
        """
        scale = figure_scale(self.pixels)
        image = cv2.resize(self.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        (H, W), (_, h, w) = image.shape[:2], self.weights.shape
        weights = self.weights.mean(0) if head is None else self.weights[head]
        heat = (255 * weights / max(float(weights.max()), 1e-12)).round().astype(np.uint8)
        heat = cv2.resize(heat, (W, H), interpolation=cv2.INTER_LINEAR)
        colors = cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO)[..., ::-1]
        gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        figure = cv2.addWeighted(gray, 0.35, np.ascontiguousarray(colors), 0.75, 0)
        row, column = self.patch
        corners = (column * W // w, row * H // h), ((column + 1) * W // w - 1, (row + 1) * H // h - 1)
        thickness = max(2, round(min(H, W) / 240))
        cv2.rectangle(figure, *corners, (0, 0, 0), 2 * thickness)  # a dark border is visible on bright images
        return cv2.rectangle(figure, *corners, (64, 224, 255), thickness)

    def describe(self) -> str:
        """Summarizes the number of patches with half of the attention, and the fraction on prefix tokens."""
        weights = np.sort(self.weights.mean(0).ravel())[::-1]
        number = int(np.searchsorted(weights.cumsum(), weights.sum() / 2)) + 1
        prefix = float(self.prefix.mean())
        text = f'block {self.block}: half of the attention to patches is on {number} of {weights.size}'
        return text + (f'; {prefix:.0%} of all attention is on the class token' if prefix else '')

    def __repr__(self) -> str:
        name = 'image' if self.source.path is None else self.source.path.name
        return f'AttentionResult({name}, {self.describe()})'


def attention_blocks(encoder: ViT | TimmViT) -> list[int]:
    """Returns the indices of the blocks whose attention can be computed.

    Blocks with window attention are included only if all blocks have windows.
    """
    if isinstance(encoder, TimmViT):
        return timm_attention_blocks(encoder)
    everywhere = [i for i, block in enumerate(encoder.blocks) if not block.window_size]
    return everywhere or list(range(len(encoder.blocks)))


def input_size(encoder: ViT | TimmViT, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (H, W) to which an image of `size` (H, W) is resized for its attention.

    The result has about as many pixels as `encoder.image_size`, and about the aspect ratio of the image. For a timm
    model it is always the size for which the model was built.
    """
    p = encoder.patch_size
    if isinstance(encoder, TimmViT):
        h, w = encoder.grid
    else:
        height, width = encoder.image_size
        scale = sqrt(height * width / (size[0] * size[1]))
        # The long side is at most 8 times the short side, which limits the number of patches.
        h, w = (max(1, min(round(side * scale / p), 8 * max(height, width) // p)) for side in size)
    return h * p, w * p


def patch_at(point: tuple[float, float], size: Sequence[int], grid: Sequence[int]) -> tuple[int, int]:
    """Returns (row, column) of the patch at a point of an image.

    Args:
        point: (x, y) in pixels of the image.
        size: (H, W) of the image in pixels.
        grid: (h, w), numbers of rows and columns of patches.

    Raises:
        ValueError: the point is outside of the image.
    """
    (x, y), (H, W) = point, size
    if not (0 <= x <= W and 0 <= y <= H):
        raise ValueError(f'point=({x:g}, {y:g}) is outside of the image of {W}x{H} pixels (width x height)')
    return min(int(y * grid[0] / H), grid[0] - 1), min(int(x * grid[1] / W), grid[1] - 1)
