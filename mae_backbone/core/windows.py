"""Windows of attention: tokens of a grid <-> tokens of each window."""
from typing import NamedTuple

import torch
from torch import Tensor

from mae_backbone.core.exporting import is_static


class Group(NamedTuple):
    """Tokens first to last - 1 along one axis, in windows that hold them at places[0] to places[1] - 1 each."""

    first: int
    last: int
    places: tuple[int, int]


class Windows(NamedTuple):
    """Squares of size*size patches that cover a grid of (h, w) patches, padded at the edges.

    The first boundary between windows is after `shift` rows and columns, or after `size` if shift is 0.
    """

    grid: tuple[int, int]
    size: int
    shift: int = 0

    @property
    def padded_grid(self) -> tuple[int, int]:
        """(h, w) of the grid with its padding."""
        h, w = ((self._before + side + self.size - 1) // self.size * self.size for side in self.grid)  # rounded up
        return h, w

    def split(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """tokens (B, h*w, D) -> (B * windows, size*size, D), padded with `padding` (D,) or zeros."""
        if not is_static(self.grid):
            return self._gather_windows(tokens, padding)
        size, before, (h, w), (H, W) = self.size, self._before, self.grid, self.padded_grid
        tokens, padding = tokens.unflatten(1, (h, w)), tokens.new_zeros(1) if padding is None else padding
        # torch.cat rather than F.pad and torch.where, whose gradients take two more copies.
        for dim, before_and_after in ((2, (before, W - w - before)), (1, (before, H - h - before))):
            first, last = (padding.to(tokens.dtype).expand(*tokens.shape[:dim], side, *tokens.shape[dim + 1:])
                           for side in before_and_after)
            tokens = torch.cat([first, tokens, last], dim) if any(before_and_after) else tokens
        tokens = tokens.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3)
        return tokens.reshape(-1, size * size, tokens.shape[-1])

    def join(self, windows: Tensor) -> Tensor:
        """windows (B * windows, size*size, D) -> tokens (B, h*w, D), without the padding: the inverse of `split`."""
        if not is_static(self.grid):
            return self._gather_tokens(windows)
        size, before, (h, w), (H, W), D = self.size, self._before, self.grid, self.padded_grid, windows.shape[-1]
        tokens = windows.reshape(-1, H // size, W // size, size, size, D).transpose(2, 3).reshape(-1, H, W, D)
        return tokens[:, before:before + h, before:before + w].flatten(1, 2)

    def _gather_windows(self, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """`split` by an index that is computed from the sizes: slices and views of unknown sizes cannot be exported."""
        (h, w), (H, W), size, D = self.grid, self.padded_grid, self.size, tokens.shape[-1]
        place = torch.arange(H * W, device=tokens.device)  # in order of the windows, their rows and their columns
        window, inner = place // (size * size), place % (size * size)
        row = window // (W // size)  # of the windows; ONNX has no remainder of a number that is not known
        rows = row * size + inner // size - self._before
        columns = (window - row * (W // size)) * size + inner % size - self._before
        inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
        index = torch.where(inside, rows * w + columns, h * w)
        last = (tokens.new_zeros(D) if padding is None else padding.to(tokens.dtype)).expand(tokens.shape[0], 1, D)
        return torch.cat([tokens, last], dim=1)[:, index].reshape(-1, size * size, D)

    def _gather_tokens(self, windows: Tensor) -> Tensor:
        """`join` by an index."""
        (h, w), (H, W), size, D = self.grid, self.padded_grid, self.size, windows.shape[-1]
        place = torch.arange(h * w, device=windows.device)
        row = place // w
        rows, columns = row + self._before, place - row * w + self._before
        window = rows // size * (W // size) + columns // size
        return windows.reshape(-1, H * W, D)[:, (window * size + rows % size) * size + columns % size]

    def groups(self, axis: int) -> list['Group']:
        """Groups of neighboring windows along an axis (0 rows, 1 columns) that hold tokens at the same places."""
        side, groups = self.grid[axis], list[Group]()
        for start in range(-self._before, side, self.size):
            first, last = max(start, 0), min(start + self.size, side)
            places = first - start, last - start
            if groups and groups[-1].places == places:
                first = groups.pop().first
            groups.append(Group(first, last, places))
        return groups

    @property
    def _before(self) -> int:
        """Rows and columns of padding in the first windows."""
        return -self.shift % self.size
