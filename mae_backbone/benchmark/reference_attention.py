"""Reference implementation of attention with relative positions: an N x N table, as in detectron2."""
from collections.abc import Callable

import torch
from torch import Tensor

from mae_backbone.core.attention import Attention, relative
from mae_backbone.core.windows import Windows


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
