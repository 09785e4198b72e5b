"""Relative positions of BEiT: a trained number for each distance between two patches, added to their attention."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.core.exporting import is_exporting, is_static

EXTRA = 3  # entries at the end of a table: class token to patch, patch to class token, class token to itself


class RelativeBias(nn.Module):
    """A table ((2h - 1)(2w - 1) + 3, heads) for a grid of (h, w) patches, initialized to zero.

    It is resized for any other grid. Its name, the order of its entries and the three entries of the class token are
    as in BEiT (Bao et al., ICLR 2022; microsoft/unilm `beit/modeling_finetune.py`) and mmseg's BEiT and MAE.

    Args:
        grid: (h, w) that the table is for.
        heads: number of heads of attention.
    """

    def __init__(self, grid: tuple[int, int], heads: int) -> None:
        super().__init__()
        self.grid = (grid[0], grid[1])
        self.relative_position_bias_table = nn.Parameter(bias_table(grid, heads))

    def forward(self, grid: tuple[int, int], tokens: int) -> Tensor:
        """-> bias (heads, N, N) of N `tokens`: the patches of `grid`, row by row, after a class token if there is one.
        """
        return bias_of(self.relative_position_bias_table, self.grid, grid, class_token=tokens > grid[0] * grid[1])


def bias_table(grid: tuple[int, int], heads: int) -> Tensor:
    """-> table of zeros for a grid of (h, w) patches."""
    return torch.zeros((2 * grid[0] - 1) * (2 * grid[1] - 1) + EXTRA, heads)


def bias_of(table: Tensor, table_grid: tuple[int, int], grid: tuple[int, int], *, class_token: bool) -> Tensor:
    """table for `table_grid` -> bias (heads, N, N) of each query (row) for each key (column) on `grid`.

    N is h*w, and one more with the class token, which comes first.
    """
    h, w = grid
    distances = resized(table, table_grid, grid)[:-EXTRA].T.unflatten(1, (2 * h - 1, 2 * w - 1))
    if is_exporting():  # ONNX has no unfold with a size that is known at run time only
        index = (_differences(h, table.device)[:, None, :, None] * (2 * w - 1)
                 + _differences(w, table.device)[None, :, None, :]).reshape(h * w, h * w)
        bias = distances.flatten(1)[:, index]
        return _with_class_token(bias, table) if class_token else bias
    # unfold gives [query row, query column, c, d] = distances[query row + c, query column + d], and the key in row k is
    # at c = h - 1 - k. Indexing with an N x N index would be slower, and its gradient an atomic sum.
    bias = distances.unfold(1, h, 1).unfold(2, w, 1).flip(3, 4).reshape(-1, h * w, h * w)
    return _with_class_token(bias, table) if class_token else bias


def _differences(side: int, device: torch.device) -> Tensor:
    """-> (side, side), place of the query minus place of the key, from 0 to 2*side - 2."""
    place = torch.arange(side, device=device)
    return place[:, None] - place[None, :] + side - 1


def _with_class_token(bias: Tensor, table: Tensor) -> Tensor:
    """bias (heads, L, L) between patches -> (heads, 1 + L, 1 + L) with the class token first."""
    L = bias.shape[1]
    from_class, to_class, itself = table[-EXTRA:, :, None, None].unbind()  # each (heads, 1, 1)
    first = torch.cat([itself, from_class.expand(-1, 1, L)], dim=2)
    return torch.cat([first, torch.cat([to_class.expand(-1, L, 1), bias], dim=2)], dim=1)


def resized(table: Tensor, table_grid: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resizes a table for `table_grid` to `grid`, bicubically; the entries of the class token stay.

    timm does the same (`resize_rel_pos_bias_table_simple`). BEiT's own interpolation, at distances that grow
    geometrically, is not differentiable and needs square grids.
    """
    if is_static(grid) and tuple(table_grid) == tuple(grid):
        return table
    (h, w), (new_h, new_w) = table_grid, grid
    distances = table[:-EXTRA].T.reshape(1, -1, 2 * h - 1, 2 * w - 1)
    distances = F.interpolate(distances, size=(2 * new_h - 1, 2 * new_w - 1), mode='bicubic', align_corners=False)
    return torch.cat([distances[0].flatten(1).T, table[-EXTRA:]])
