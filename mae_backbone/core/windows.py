"""The windows that attention stays within: tokens of a grid, and the same sorted by window."""
from typing import NamedTuple

import torch
from torch import Tensor


class Windows(NamedTuple):
    """Squares of size*size patches that cover a grid of (h, w) patches; those at the edges are filled up.

    The first boundary between windows lies after `shift` rows and columns, or after `size` where shift is 0.
    """

    grid: tuple[int, int]
    size: int
    shift: int = 0

    @property
    def filled(self) -> tuple[int, int]:
        """The grid with all that fills the windows."""
        return tuple(-(-(self._before + side) // self.size) * self.size for side in self.grid)

    def split(self, tokens: Tensor, filling: Tensor | None = None) -> Tensor:
        """tokens (B, h*w, D) -> (B * windows, size*size, D); `filling` (D,), or zeros, fill those at the edges."""
        size, before, (h, w), (H, W) = self.size, self._before, self.grid, self.filled
        tokens, filling = tokens.unflatten(1, (h, w)), tokens.new_zeros(1) if filling is None else filling
        # Not F.pad and torch.where, whose gradients are two copies more.
        for dim, before_and_after in ((2, (before, W - w - before)), (1, (before, H - h - before))):
            first, last = (filling.to(tokens.dtype).expand(*tokens.shape[:dim], side, *tokens.shape[dim + 1:])
                           for side in before_and_after)
            tokens = torch.cat([first, tokens, last], dim) if any(before_and_after) else tokens
        tokens = tokens.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3)
        return tokens.reshape(-1, size * size, tokens.shape[-1])

    def join(self, windows: Tensor) -> Tensor:
        """windows (B * windows, size*size, D) -> tokens (B, h*w, D): the inverse of `split`, the filling cut off."""
        size, before, (h, w), (H, W), D = self.size, self._before, self.grid, self.filled, windows.shape[-1]
        tokens = windows.reshape(-1, H // size, W // size, size, size, D).transpose(2, 3).reshape(-1, H, W, D)
        return tokens[:, before:before + h, before:before + w].flatten(1, 2)

    @property
    def _before(self) -> int:
        """Rows and columns that fill the first windows."""
        return -self.shift % self.size
