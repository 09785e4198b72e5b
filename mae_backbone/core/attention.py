"""Multi-head attention with relative positions of detectron2's and of BEiT's kind."""
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.core.chunked_attention import chunked_attention
from mae_backbone.core.recompute import Maker, linear_of, on_made
from mae_backbone.core.relative_bias import bias_of, bias_table
from mae_backbone.core.windows import Windows


class Attention(nn.Module):
    """Self-attention over the N tokens of each sequence; parameters are named as in timm and detectron2.

    Args:
        width: D, split evenly over the heads.
        heads: number of heads.
        table_size: (h, w), the grid for which tables of relative positions are made, zero at the start; None for none.
            On another grid the tables are resized linearly, as detectron2 does.
        bias_size: the same for a table of BEiT's kind, see `RelativeBias`.
        recompute: make again in the backward pass what is cheap to make, and do not keep it.
    """

    def __init__(self, width: int, *, heads: int, table_size: tuple[int, int] | None = None,
                 bias_size: tuple[int, int] | None = None, recompute: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f'width={width} cannot be split over heads={heads}: choose a multiple')
        self.heads, self.recompute = heads, recompute
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
                bias: Tensor | None = None, before: Callable[[Tensor], Tensor] | None = None,
                windows: Windows | None = None) -> Tensor:
        """tokens (B, N, D) -> (B, N, D); with relative positions the N tokens are those of `grid`, row by row.

        A `bias` (heads, N, N) is added to the scores, of a query in its row to a key in its column.
        With `last` = M the outcome (B, M, D) is that of the last M tokens, which all N are looked up for.
        What goes `before`, such as a norm, makes the tokens from what is given; it is cheap.
        In `windows` tokens see those of their own alone. As in detectron2 zeros fill the windows at the edges, before
        queries, keys and values are made of them, and are attended to like any patch.
        """
        if last is not None:
            return self._of_last(tokens if before is None else before(tokens), last)
        if windows is not None:
            return self._in_windows(tokens, before or nn.Identity(), windows)
        qkv = self.qkv(tokens) if before is None else linear_of(self.qkv, before, tokens, recompute=self.recompute)
        return self.proj(self._mix(qkv, grid, bias))

    def _in_windows(self, tokens: Tensor, before: Callable[[Tensor], Tensor], windows: Windows) -> Tensor:
        """The same for tokens on the grid of `windows`; nothing is multiplied with what fills them."""
        qkv = linear_of(self.qkv, before, tokens, recompute=self.recompute)
        # The bias is what is made of zeros.
        mixed = self._mix(windows.split(qkv, self.qkv.bias), (windows.size, windows.size))
        return linear_of(self.proj, windows.join, mixed, recompute=self.recompute)

    def _mix(self, qkv: Tensor, grid: tuple[int, int] | None, bias: Tensor | None = None) -> Tensor:
        """qkv (B, N, 3D) -> (B, N, D): the values, mixed by attention with the positions that there are."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
        return self._attend(q, k, v, grid, bias).transpose(1, 2).flatten(2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int] | None, bias: Tensor | None) -> Tensor:
        """q, k, v (B, heads, N, d) -> (B, heads, N, d)."""
        if self.rel_pos_h is not None:
            return attend_with_relative_positions(q, k, v, self.rel_pos_h, self.rel_pos_w, grid,
                                                  recompute=self.recompute)
        if self.bias_size is not None:
            with_class = q.shape[2] > grid[0] * grid[1]
            make = partial(bias_of, self.relative_position_bias_table, self.bias_size, grid, class_token=with_class)
            return attend_with_bias(q, k, v, make, recompute=self.recompute)
        if bias is not None:
            return attend_with_bias(q, k, v, lambda: bias, recompute=self.recompute)
        return F.scaled_dot_product_attention(q, k, v)

    def _of_last(self, tokens: Tensor, last: int) -> Tensor:
        """tokens (B, N, D) -> (B, M, D): queries of the last M tokens alone, without relative positions."""
        B, N, D = tokens.shape
        (weight_q, weight_kv), (bias_q, bias_kv) = (part.split([D, 2 * D]) for part in (self.qkv.weight, self.qkv.bias))
        q = F.linear(tokens[:, N - last:], weight_q, bias_q).reshape(B, last, self.heads, D // self.heads)
        k, v = F.linear(tokens, weight_kv, bias_kv).reshape(B, N, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k, v)
        return self.proj(mixed.transpose(1, 2).reshape(B, last, D))


def attend_with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Maker, *, recompute: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of q, k, v (B, heads, N, d), and what makes the bias (heads, N, N)."""
    if in_parts(q):
        return on_made(lambda made: chunked_attention(q, k, v, table=made), bias, recompute=recompute)
    return on_made(lambda made: F.scaled_dot_product_attention(q, k, v, made[None]), lambda: bias().to(q.dtype),
                   recompute=recompute)


def attend_with_relative_positions(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor,
                                   grid: tuple[int, int], *, recompute: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(d) + row term + column term) v on a grid of h*w = N tokens; q, k, v (B, heads, N, d).

    The bias of query i and key j is q_i . R_h[row_i - row_j] + q_i . R_w[column_i - column_j] (detectron2,
    `add_decomposed_rel_pos`). It is added to a few scores at a time, or folded into the heads for a fused kernel:
    nothing is N x N.
    """
    make = partial(distance_terms, q.unflatten(2, grid), recompute=recompute)
    rows = partial(make, relative(table_h, grid[0]).to(q.dtype), axis=2)
    columns = partial(make, relative(table_w, grid[1]).to(q.dtype), axis=3)
    if in_parts(q):
        return on_made(partial(chunked_attention, q, k, v), rows, columns, recompute=recompute)
    return attend_folded(q, k, v, rows, columns, grid, recompute=recompute)


def attend_folded(q: Tensor, k: Tensor, v: Tensor, rows: Maker, columns: Maker, grid: tuple[int, int], *,
                  recompute: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, of which `rows` and `columns` make the bias as in `chunked_attention`.

    A sum over rows and columns is a dot product with one-hot vectors, so that it folds into the head dimension: q
    becomes (q / sqrt(d), its h row terms, its w column terms), k (k, one-hot of its row, one-hot of its column).
    """
    (B, heads, N, d), (h, w) = q.shape, grid
    place = torch.arange(N, device=q.device)
    one_hot = torch.cat([F.one_hot(place // w, h), F.one_hot(place % w, w)], dim=1).to(q.dtype)
    mixed = on_made(partial(F.scaled_dot_product_attention, scale=1.0),
                    lambda: torch.cat([q * d**-0.5, rows(), columns()], dim=-1),
                    lambda: torch.cat([k, one_hot.expand(B, heads, N, h + w)], dim=-1),
                    # Fused kernels want v as wide as q and k; without it PyTorch falls back to the N x N matrix.
                    lambda: F.pad(v, (0, h + w)), recompute=recompute)
    return mixed[..., :d]


def distance_terms(q: Tensor, distances: Tensor, *, axis: int, recompute: bool = True) -> Tensor:
    """q_i . R[place_i - place_j] with the places along an axis of q (B, heads, h, w, d), 2 for rows or 3 for columns.

    distances R (side, side, d), for the side h or w of that axis -> (B, heads, h*w, side), of each query to each place.
    """
    others = [size for i, size in enumerate(q.shape[:4]) if i != axis]
    # A product of matrices wants queries of one place side by side: a copy, that is made again.
    found = on_made(lambda by_place: by_place @ distances.mT, lambda: q.movedim(axis, 0).flatten(1, 3),
                    recompute=recompute)
    return found.unflatten(1, others).movedim(0, axis).flatten(2, 3)


def in_parts(q: Tensor) -> bool:
    """Whether `chunked_attention` is the way: the fused kernel for CPUs multiplies three times as much on folded heads,
    and takes no other bias that is trained. A compiler would unroll the loops of the parts."""
    return q.device.type == 'cpu' and not torch.compiler.is_compiling()


def relative(table: Tensor, size: int) -> Tensor:
    """table (2 * any - 1, d) -> (size, size, d): entry [i, j] is that of the distance i - j."""
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode='linear')[0].T
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]
