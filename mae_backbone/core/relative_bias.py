"""A trained number for each distance between two patches, added to their score: the relative positions of BEiT."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXTRA = 3  # entries at the end of a table: class token to patch, patch to class token, class token to itself


class RelativeBias(nn.Module):
    """A table ((2h - 1)(2w - 1) + 3, heads) for a grid of (h, w) patches, zero at the start; it serves every grid.

    Its name, the order of its entries and the three of the class token are those of BEiT (Bao et al., ICLR 2022;
    microsoft/unilm `beit/modeling_finetune.py`) and of mmseg's BEiT and MAE.

    Args:
        grid: (h, w) that it is made for.
        heads: of the attention.
    """

    def __init__(self, grid: tuple[int, int], heads: int) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.relative_position_bias_table = nn.Parameter(bias_table(grid, heads))

    def forward(self, grid: tuple[int, int], tokens: int) -> Tensor:
        """-> bias (heads, N, N) of N `tokens`: the patches of `grid` row by row, before them a class token or none."""
        return bias_of(self.relative_position_bias_table, self.grid, grid, class_token=tokens > grid[0] * grid[1])


def bias_table(grid: tuple[int, int], heads: int) -> Tensor:
    """An empty table for a grid of (h, w) patches."""
    return torch.zeros((2 * grid[0] - 1) * (2 * grid[1] - 1) + EXTRA, heads)


def bias_of(table: Tensor, made_for: tuple[int, int], grid: tuple[int, int], *, class_token: bool) -> Tensor:
    """table for the grid `made_for` -> bias (heads, N, N) of each query (row) to each key (column) on `grid`.

    N is h*w, and one more with the class token, which comes first.
    """
    h, w = grid
    between = resized(table, made_for, grid)[:-EXTRA].T.unflatten(1, (2 * h - 1, 2 * w - 1))
    # What unfold makes has [query row, query column, c, d] = between[query row + c, query column + d], and the key at
    # row k is at c = h - 1 - k: no index of N x N numbers, and its gradient is a sum over copies.
    bias = between.unfold(1, h, 1).unfold(2, w, 1).flip(3, 4).reshape(-1, h * w, h * w)
    if not class_token:
        return bias
    from_class, to_class, itself = table[-EXTRA:, :, None, None].unbind()  # each (heads, 1, 1)
    first = torch.cat([itself, from_class.expand(-1, 1, h * w)], dim=2)
    return torch.cat([first, torch.cat([to_class.expand(-1, h * w, 1), bias], dim=2)], dim=1)


def resized(table: Tensor, made_for: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A table for the grid `made_for` -> one for `grid`: bicubic, the entries of the class token as they are.

    As timm does (`resize_rel_pos_bias_table_simple`). BEiT's own way, at distances that grow geometrically, is not
    differentiable and needs square grids.
    """
    if tuple(made_for) == tuple(grid):
        return table
    (h, w), (new_h, new_w) = made_for, grid
    between = table[:-EXTRA].T.reshape(1, -1, 2 * h - 1, 2 * w - 1)
    between = F.interpolate(between, size=(2 * new_h - 1, 2 * new_w - 1), mode='bicubic', align_corners=False)
    return torch.cat([between[0].flatten(1).T, table[-EXTRA:]])
