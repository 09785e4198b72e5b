"""Multi-head attention with detectron2's decomposed relative positions, without their N x N table."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.relative_bias import bias_of, bias_table


class Attention(nn.Module):
    """Self-attention over the N tokens of each sequence; parameters are named as in timm and detectron2.

    Args:
        width: D, split evenly over the heads.
        heads: number of heads.
        table_size: (h, w), the grid for which tables of relative positions are made, zero at the start; None for none.
            On another grid the tables are resized linearly, as detectron2 does.
        bias_size: the same for a table of BEiT's kind, see `RelativeBias`.
    """

    def __init__(self, width: int, *, heads: int, table_size: tuple[int, int] | None = None,
                 bias_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f'width={width} cannot be split over heads={heads}: choose a multiple')
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = self.rel_pos_w = None
        if table_size is not None:
            h, w = table_size
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * h - 1, width // heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * w - 1, width // heads))
        self.bias_size = bias_size
        if bias_size is not None:
            self.relative_position_bias_table = nn.Parameter(bias_table(bias_size, heads))

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None, *, last: int | None = None,
                bias: Tensor | None = None) -> Tensor:
        """tokens (B, N, D) -> (B, N, D); with relative positions the N tokens are those of `grid`, row by row.

        A `bias` (heads, N, N) is added to the scores, of a query in its row to a key in its column.
        With `last` = M the outcome (B, M, D) is that of the last M tokens, which all N are looked up for.
        """
        B, N, D = tokens.shape
        if last is not None:
            return self._of_last(tokens, last)
        q, k, v = self.qkv(tokens).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        if self.bias_size is not None:
            bias = bias_of(self.relative_position_bias_table, self.bias_size, grid, class_token=N > grid[0] * grid[1])
        if self.rel_pos_h is None:
            mixed = F.scaled_dot_product_attention(q, k, v, None if bias is None else bias[None].to(q.dtype))
        else:
            mixed = attend_with_relative_positions(q, k, v, self.rel_pos_h, self.rel_pos_w, grid)
        return self.proj(mixed.transpose(1, 2).reshape(B, N, D))

    def _of_last(self, tokens: Tensor, last: int) -> Tensor:
        """tokens (B, N, D) -> (B, M, D): queries of the last M tokens alone, without relative positions."""
        B, N, D = tokens.shape
        (weight_q, weight_kv), (bias_q, bias_kv) = (part.split([D, 2 * D]) for part in (self.qkv.weight, self.qkv.bias))
        q = F.linear(tokens[:, N - last:], weight_q, bias_q).reshape(B, last, self.heads, D // self.heads)
        k, v = F.linear(tokens, weight_kv, bias_kv).reshape(B, N, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k, v)
        return self.proj(mixed.transpose(1, 2).reshape(B, last, D))


def attend_with_relative_positions(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor,
                                   grid: tuple[int, int]) -> Tensor:
    """softmax(q k^T / sqrt(d) + row term + column term) v on a grid of h*w = N tokens; q, k, v (B, heads, N, d).

    The bias of query i and key j is q_i . R_h[row_i - row_j] + q_i . R_w[column_i - column_j] (detectron2,
    `add_decomposed_rel_pos`). A sum over rows and columns is a dot product with one-hot vectors, so that it folds into
    the head dimension: q becomes (q / sqrt(d), its h row terms, its w column terms), k becomes (k, one-hot of its row,
    one-hot of its column), and any fused kernel computes the rest in memory linear in N.
    """
    h, w = grid
    B, heads, N, d = q.shape
    by_place = q.reshape(B, heads, h, w, d)
    rows = torch.einsum('bnhwd,hkd->bnhwk', by_place, relative(table_h, h).to(q.dtype)).reshape(B, heads, N, h)
    columns = torch.einsum('bnhwd,wkd->bnhwk', by_place, relative(table_w, w).to(q.dtype)).reshape(B, heads, N, w)
    place = torch.arange(N, device=q.device)
    one_hot = torch.cat([F.one_hot(place // w, h), F.one_hot(place % w, w)], dim=1).to(q.dtype)
    q = torch.cat([q * d**-0.5, rows, columns], dim=-1)
    k = torch.cat([k, one_hot.expand(B, heads, N, h + w)], dim=-1)
    # The fused CPU kernel wants v as wide as q and k; without it PyTorch falls back to the N x N matrix.
    return F.scaled_dot_product_attention(q, k, F.pad(v, (0, h + w)), scale=1.0)[..., :d]


def relative(table: Tensor, size: int) -> Tensor:
    """table (2 * any - 1, d) -> (size, size, d): entry [i, j] is that of the distance i - j."""
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode='linear')[0].T
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]
