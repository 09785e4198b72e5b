"""Multi-head attention, with the relative positions of detectron2 or of BEiT."""
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.core.chunked_attention import chunked_attention
from mae_backbone.core.exported_attention import attend_in_parts
from mae_backbone.core.exporting import is_exporting, is_static
from mae_backbone.core.recompute import MakeInput, recompute_inputs, recompute_linear_input
from mae_backbone.core.relative_bias import bias_of, bias_table
from mae_backbone.core.windows import Windows

MIN_KEYS_IN_BFLOAT16 = 512  # on a CPU, in training


class Attention(nn.Module):
    """Self-attention over the N tokens of each sequence. Parameters have the names of timm and detectron2.

    Args:
        width: D, split evenly over the heads.
        heads: number of heads.
        table_size: grid (h, w) for which detectron2's tables of relative positions are stored. They are initialized to
            zero, and resized linearly for other grids, as in detectron2. None for no tables.
        bias_size: grid (h, w) for which BEiT's table is stored, see `RelativeBias`; None for no table.
        recompute: recompute cheap activations in the backward pass instead of storing them.

    Raises:
        ValueError: the width is not a multiple of the heads.
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
        """tokens (B, N, D) -> (B, N, D).

        Args:
            tokens: with relative positions, all patches of `grid`, row by row.
            grid: (h, w), needed for relative positions.
            last: M; only the last M tokens are queries, all N are keys, and the result is (B, M, D).
            bias: (heads, N, N), added to the scores of each query (row) for each key (column).
            before: a cheap function, such as a norm, that is applied to the tokens first.
            windows: restrict attention to windows. As in detectron2, windows at the edges are padded with zeros before
                queries, keys and values are computed, and patches attend to these zeros like to other patches.
        """
        if last is not None:
            return self._attend_from_last(tokens if before is None else before(tokens), last)
        if windows is not None:
            return self._in_windows(tokens, before or nn.Identity(), windows)
        qkv = self.qkv(tokens) if before is None else recompute_linear_input(self.qkv, before, tokens,
                                                                             recompute=self.recompute)
        return self.proj(self._mix(qkv, grid, bias))

    def _in_windows(self, tokens: Tensor, before: Callable[[Tensor], Tensor], windows: Windows) -> Tensor:
        """tokens (B, h*w, D) on the grid of `windows` -> (B, h*w, D)."""
        qkv = recompute_linear_input(self.qkv, before, tokens, recompute=self.recompute)
        if self.rel_pos_h is not None and self.rel_pos_w is not None and takes_chunks(qkv) and not is_exporting():
            groups = attend_in_windows(qkv, self.qkv.bias, windows, self.heads, self.rel_pos_h, self.rel_pos_w,
                                       recompute=self.recompute)
            return recompute_linear_input(self.proj, lambda _: join_groups(groups), groups[0][0],
                                          recompute=self.recompute)
        # The projection of a zero token is its bias. Therefore windows can be padded with the bias after the
        # projection, which avoids multiplications by zero.
        mixed = self._mix(windows.split(qkv, self.qkv.bias), (windows.size, windows.size))
        return recompute_linear_input(self.proj, windows.join, mixed, recompute=self.recompute)

    def _mix(self, qkv: Tensor, grid: tuple[int, int] | None, bias: Tensor | None = None) -> Tensor:
        """qkv (B, N, 3D) -> (B, N, D), the values mixed by attention."""
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
        return self._attend(q, k, v, grid, bias).transpose(1, 2).flatten(2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int] | None, bias: Tensor | None) -> Tensor:
        """q, k, v (B, heads, N, d) -> (B, heads, N, d)."""
        if grid is None and (self.rel_pos_h is not None or self.bias_size is not None):
            raise ValueError('relative positions need the grid of the patches')
        if self.rel_pos_h is not None and self.rel_pos_w is not None and grid is not None:
            return attend_with_relative_positions(q, k, v, self.rel_pos_h, self.rel_pos_w, grid,
                                                  recompute=self.recompute)
        if self.bias_size is not None and grid is not None:
            with_class = q.shape[2] > grid[0] * grid[1]
            make_bias = partial(bias_of, self.relative_position_bias_table, self.bias_size, grid,
                                class_token=with_class)
            return attend_with_bias(q, k, v, make_bias, recompute=self.recompute)
        if bias is not None:
            return attend_with_bias(q, k, v, lambda: bias, recompute=self.recompute)
        return attend_in_parts(q, k, v) if is_exporting() else fused_attention(q, k, v)

    def _attend_from_last(self, tokens: Tensor, last: int) -> Tensor:
        """tokens (B, N, D) -> (B, M, D): only the last M tokens are queries, without relative positions."""
        B, N, D = tokens.shape
        (weight_q, weight_kv), (bias_q, bias_kv) = (p.split([D, 2 * D]) for p in (self.qkv.weight, self.qkv.bias))
        q = F.linear(tokens[:, N - last:], weight_q, bias_q).reshape(B, last, self.heads, D // self.heads)
        k, v = F.linear(tokens, weight_kv, bias_kv).reshape(B, N, 2, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = fused_attention(q.transpose(1, 2), k, v)
        return self.proj(mixed.transpose(1, 2).reshape(B, last, D))


def fused_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *,
                    scale: float | None = None) -> Tensor:
    """`F.scaled_dot_product_attention` of q, k, v (B, heads, N, d); on a CPU, short sequences are trained in float32.

    The gradients of PyTorch's CPU kernel (2.14) in bfloat16 take 20 times as long as in float32 for 16 keys, 4 times
    for 65, 1.4 times for 400 and 0.7 times for 1,024.
    """
    if q.device.type == 'cpu' and q.dtype == torch.bfloat16 and q.requires_grad and k.shape[2] < MIN_KEYS_IN_BFLOAT16:
        with torch.autocast('cpu', enabled=False):
            mixed = F.scaled_dot_product_attention(q.float(), k.float(), v.float(),
                                                   None if bias is None else bias.float(), scale=scale)
        return mixed.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)


def attend_with_bias(q: Tensor, k: Tensor, v: Tensor, make_bias: MakeInput, *, recompute: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of q, k, v (B, heads, N, d); `make_bias` returns the bias (heads, N, N)."""
    if is_exporting():
        table = make_bias().to(q.dtype)[None]
        return attend_in_parts(q, k, v, lambda places: table if places is None else table.index_select(2, places))
    if takes_chunks(q):
        return recompute_inputs(lambda bias: chunked_attention(q, k, v, table=bias), make_bias, recompute=recompute)
    return recompute_inputs(lambda bias: fused_attention(q, k, v, bias[None]),
                            lambda: aligned(make_bias().to(q.dtype)), recompute=recompute)


def aligned(bias: Tensor) -> Tensor:
    """bias (heads, N, N) -> the same numbers in rows at a distance in memory that is a multiple of 16.

    PyTorch's memory-efficient kernel needs this. Otherwise it makes a padded copy and keeps it for the backward pass.
    """
    N = bias.shape[-1]
    return F.pad(bias, (0, -N % 16))[..., :N]


def attend_with_relative_positions(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor,
                                   grid: tuple[int, int], *, recompute: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(d) + row term + column term) v on a grid of h*w = N tokens; q, k, v (B, heads, N, d).

    The bias of query i and key j is q_i . R_h[row_i - row_j] + q_i . R_w[column_i - column_j] (detectron2,
    `add_decomposed_rel_pos`). It is added to a chunk of scores at a time, or folded into the heads for a fused kernel,
    so that no N x N matrix is stored.
    """
    make_terms = partial(distance_terms, q.unflatten(2, grid), recompute=recompute)
    rows = partial(make_terms, relative(table_h, grid[0]).to(q.dtype), axis=2)
    columns = partial(make_terms, relative(table_w, grid[1]).to(q.dtype), axis=3)
    if is_exporting():
        row_terms, column_terms = rows(), columns()

        def bias_of(places: Tensor | None) -> Tensor:
            of_rows, of_columns = (terms if places is None else terms.index_select(2, places)
                                   for terms in (row_terms, column_terms))
            return (of_rows[..., :, None] + of_columns[..., None, :]).flatten(-2)
        return attend_in_parts(q, k, v, bias_of)
    if takes_chunks(q):
        return recompute_inputs(partial(chunked_attention, q, k, v), rows, columns, recompute=recompute)
    return attend_folded(q, k, v, rows, columns, grid, recompute=recompute)


def attend_in_windows(qkv: Tensor, padding: Tensor, windows: Windows, heads: int, table_h: Tensor, table_w: Tensor, *,
                      recompute: bool = True) -> list[list[Tensor]]:
    """`attend_with_relative_positions` in each window, by `chunked_attention`.

    As in detectron2, padding is used as keys and values. It is not used as queries, which saves time: at 512 pixels,
    42 % of the places in windows of 14 are padding. Windows with the same places of padding are computed together.

    Args:
        qkv: (B, h*w, 3D), queries, keys and values of the tokens.
        padding: (3D,), query, key and value of a place that is padded.
        windows: windows to which attention is restricted.
        heads: number of heads.
        table_h, table_w, recompute: as in `attend_with_relative_positions`.

    Returns:
        Values mixed by attention, for `join_groups`.
    """
    size, down, across = windows.size, windows.groups(0), windows.groups(1)
    rows_of, columns_of = (relative(table, size).to(qkv.dtype) for table in (table_h, table_w))
    groups: list[list[Tensor]] = []
    # Parts come from `split`: its gradient is one copy. Gradients of slices would be filled with zeros and added up.
    bands = qkv.unflatten(1, windows.grid).split([group.last - group.first for group in down], dim=1)
    for band, (_, _, (above, below)) in zip(bands, down, strict=True):
        groups.append([])
        for part, (_, _, (before, after)) in zip(band.split([group.last - group.first for group in across], dim=2),
                                                 across, strict=True):
            part = part.unflatten(2, (-1, after - before)).unflatten(1, (-1, below - above)).transpose(2, 3)
            images_and_windows = part.shape[:3]                               # B, windows down, windows across
            D = part.shape[-1] // 3
            q, kv = part.flatten(0, 2).split([D, 2 * D], dim=3)               # (n, rows, columns, D and 2D)
            for dim, sides in ((2, (before, size - after)), (1, (above, size - below))):
                kv = _padded(kv, padding[D:], dim, sides)
            q = q.unflatten(3, (heads, -1)).permute(0, 3, 1, 2, 4)            # (n, heads, rows, columns, d)
            k, v = kv.flatten(1, 2).unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
            make_terms = partial(distance_terms, q, recompute=recompute)
            mixed = recompute_inputs(partial(chunked_attention, q.flatten(2, 3), k, v),
                                     partial(make_terms, rows_of[above:below], axis=2),
                                     partial(make_terms, columns_of[before:after], axis=3), recompute=recompute)
            mixed = mixed.transpose(1, 2).flatten(2).unflatten(1, (below - above, after - before))
            groups[-1].append(mixed.unflatten(0, images_and_windows).transpose(2, 3))
    return groups


def join_groups(groups: list[list[Tensor]]) -> Tensor:
    """Groups of windows, each (B, windows down, rows, windows across, columns, D), on a grid -> (B, h*w, D)."""
    bands = [torch.cat([group.flatten(3, 4).flatten(1, 2) for group in band], dim=2) for band in groups]
    return torch.cat(bands, dim=1).flatten(1, 2)


def _padded(maps: Tensor, padding: Tensor, dim: int, sides: tuple[int, int]) -> Tensor:
    """maps (n, rows, columns, D) with `padding` (D,) before and after them along a dimension."""
    if not any(sides):
        return maps
    first, last = (padding.to(maps.dtype).expand(*maps.shape[:dim], side, *maps.shape[dim + 1:]) for side in sides)
    # torch.cat is used because the gradients of F.pad and torch.where need two more copies.
    return torch.cat([first, maps, last], dim)


def attend_folded(q: Tensor, k: Tensor, v: Tensor, rows: MakeInput, columns: MakeInput, grid: tuple[int, int], *,
                  recompute: bool = True) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v by a fused kernel; `rows` and `columns` return the bias of `chunked_attention`.

    The bias of a query for a key is the dot product of its row and column terms with one-hot vectors of the key's
    place, so that it folds into the head dimension: q becomes (q / sqrt(d), its h row terms, its w column terms), k
    becomes (k, one-hot of its row, one-hot of its column).
    """
    (B, heads, N, d), (h, w) = q.shape, grid
    width, value_width = folded_widths(d, h + w)
    place = torch.arange(N, device=q.device)
    one_hot = torch.cat([F.one_hot(place // w, h), F.one_hot(place % w, w)], dim=1).to(q.dtype)
    one_hot = F.pad(one_hot, (0, width - d - h - w))
    zeros = q.new_zeros(1).expand(B, heads, N, width - d - h - w)
    mixed = recompute_inputs(partial(fused_attention, scale=1.0),
                             lambda: torch.cat([q * d**-0.5, rows(), columns(), zeros], dim=-1),
                             lambda: torch.cat([k, one_hot.expand(B, heads, N, width - d)], dim=-1),
                             lambda: F.pad(v, (0, value_width - d)), recompute=recompute)
    return mixed[..., :d]


def folded_widths(head_dim: int, places: int) -> tuple[int, int]:
    """Widths of q and k, and of v, with a bias of `places` = h + w numbers folded into heads of `head_dim` numbers.

    Fused kernels take multiples of 8. With any other width they pad copies, which they keep for the backward pass
    (FlashAttention), or PyTorch falls back to the N x N matrix. v is as wide as q and k, as FlashAttention needs. The
    exception is 192, the width of ViTDet's global blocks at 1,024 pixels: cuDNN trains it with values of 128 only,
    which also takes a third less of the second product.
    """
    width = -(-(head_dim + places) // 8) * 8
    if 128 < width <= 192 and head_dim <= 128:
        return 192, 128
    return width, width


def distance_terms(q: Tensor, distances: Tensor, *, axis: int, recompute: bool = True) -> Tensor:
    """q_i . R[place_i - place_j] for the places of queries and keys along one axis of the grid.

    Args:
        q: queries (B, heads, h, w, d).
        distances: R (side, side, d), with the side h or w of the axis.
        axis: 2 for rows, 3 for columns.
        recompute: as in `Attention`.

    Returns:
        Terms (B, heads, h*w, side) of each query for each place.
    """
    others = [size for i, size in enumerate(q.shape[:4]) if i != axis]
    # A matrix product needs the queries of one place contiguous: a copy, which is recomputed.
    terms = recompute_inputs(lambda by_place: by_place @ distances.mT, lambda: q.movedim(axis, 0).flatten(1, 3),
                             recompute=recompute)
    return terms.unflatten(1, others).movedim(0, axis).flatten(2, 3)


def takes_chunks(q: Tensor) -> bool:
    """True if `chunked_attention` computes attention with a bias: on a CPU, outside of torch.compile.

    The fused kernel for CPUs takes no bias that requires a gradient. On folded heads it multiplies three times as much.
    torch.compile would unroll the loop over the chunks.
    """
    return q.device.type == 'cpu' and not torch.compiler.is_compiling()


def relative(table: Tensor, size: int) -> Tensor:
    """table (2*n - 1, d) of any n -> (size, size, d); entry [i, j] belongs to the distance i - j."""
    if not is_static(size) or len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode='linear')[0].T
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None, :] + size - 1]
