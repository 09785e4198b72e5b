"""ViTDet's backbone, and a reference implementation of it with N x N tables of relative positions."""
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from mae_backbone.core.attention import Attention, relative
from mae_backbone.core.vit import ARCHS
from mae_backbone.core.windows import Windows
from mae_backbone.models.backbone import ViTBackbone

PATCH = 16   # pixels
WINDOW = 14  # patches


def global_blocks(depth: int) -> range:
    """Indices of the blocks without windows: the last one of each quarter (ViTDet, section 3)."""
    return range(depth // 4 - 1, depth, depth // 4)


def build_vitdet(arch: str, size: int) -> ViTBackbone:
    """ViTDet's backbone with random relative positions; the same weights in every call."""
    torch.manual_seed(0)
    model = ViTBackbone(arch, image_size=size, pretrain_image_size=224, patch_size=PATCH, window_size=WINDOW,
                        relative_positions=True, global_blocks=global_blocks(ARCHS[arch].depth))
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:  # they are zero at the start of a training, and a comparison would prove nothing
            nn.init.normal_(parameter, std=0.02)
    return model


def build_reference_vitdet(arch: str, size: int) -> ViTBackbone:
    """The same with `ReferenceAttention`, and without recomputed activations."""
    model = build_vitdet(arch, size)
    for block in model.blocks:
        block.attn.__class__ = ReferenceAttention  # the same parameters under the same names
        cast(Any, block).recompute = False
    return model


class ReferenceAttention(Attention):
    """Attention as in detectron2: relative positions of all pairs of tokens are added to the scores."""

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None, *,
                last: int | None = None, bias: Tensor | None = None,
                before: Callable[[Tensor], Tensor] | None = None, windows: Windows | None = None) -> Tensor:
        """tokens (B, N, D) on a grid of N = h*w patches, after `before` -> (B, N, D)."""
        tokens = tokens if before is None else before(tokens)
        if windows is not None:
            return windows.join(self(windows.split(tokens), (windows.size, windows.size)))
        assert grid is not None
        assert self.rel_pos_h is not None
        assert self.rel_pos_w is not None
        B, N, D = tokens.shape
        h, w = grid
        q, k, v = self.qkv(tokens).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (D // self.heads) ** -0.5
        queries = q.reshape(B, self.heads, h, w, -1)
        rows = torch.einsum('bnhwd,hkd->bnhwk', queries, relative(self.rel_pos_h, h))
        columns = torch.einsum('bnhwd,wkd->bnhwk', queries, relative(self.rel_pos_w, w))
        scores = scores.reshape(B, self.heads, h, w, h, w) + rows[..., :, None] + columns[..., None, :]
        mixed = scores.reshape(B, self.heads, N, N).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(B, N, D))
