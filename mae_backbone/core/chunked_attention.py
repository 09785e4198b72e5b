"""Attention with biases on a CPU: the scores of a few queries at a time, in memory linear in the number of tokens.

PyTorch's fused kernel for CPUs takes no bias that is trained. As in FlashAttention (Dao et al., NeurIPS 2022) nothing
of N x N numbers is kept, and the backward pass makes the scores again; here a part holds all keys of its queries.
"""
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

# Ours, of 1/4, 1/2, 1 and 2 times as much on a Sapphire Rapids (2 MB of L2 a core) with 1,024 to 16,384 tokens.
SCORES = 2**19  # at a time for each thread, 2 MB of float32
QUERIES = 64    # at a time at least, that the matrices do not become too flat

Place = tuple[slice, slice, slice]  # images, heads, tokens


class Bias(NamedTuple):
    """What is added to the scores of each query: `rows` and `columns`, or a `table`; the others are None."""

    rows: Tensor | None     # (B, heads, N, h), on a grid of N = h*w, for the keys in each row
    columns: Tensor | None  # (B, heads, N, w), for the keys in each column
    table: Tensor | None    # (heads, N, N), for each key, in all images alike

    def part(self, place: Place) -> Tensor:
        """-> (images * heads, queries, N) of the queries in `place`, nobody else's."""
        if self.table is not None:
            images = place[0].stop - place[0].start
            return self.table[place[1:]].to(_precise(self.table)).repeat(images, 1, 1)
        rows, columns = _take(self.rows, place), _take(self.columns, place)
        return (rows[..., :, None] + columns[..., None, :]).flatten(2)

    def add(self, place: Place, scores: Tensor) -> None:
        """Adds to this, the gradient of a bias, its part of the gradient of the scores in `place`."""
        if self.table is not None:
            part = self.table[place[1:]]
            part += scores.unflatten(0, (-1, len(part))).sum(dim=0)
            return
        scores = scores.unflatten(2, (self.rows.shape[-1], self.columns.shape[-1]))
        _add(self.rows, place, scores.sum(dim=-1))
        _add(self.columns, place, scores.sum(dim=-2))


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor | None = None, columns: Tensor | None = None, *,
                    table: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, in float32 or better inside; q, k, v and the outcome are (B, heads, N, d).

    The bias is given by `rows` and `columns` or by a `table`, as in `Bias`.
    """
    return _Attention.apply(q, k, v, rows, columns, table)


class _Attention(Function):
    """Keeps what comes in, what goes out, and one number for each query and head."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, *bias: Tensor | None) -> Tensor:
        B, heads, N, d = q.shape
        out = q.new_zeros(B, N, heads, d).transpose(1, 2)  # the heads side by side, as they are wanted next
        norm = q.new_zeros(B, heads, N, 1, dtype=_precise(q))
        with torch.autocast(q.device.type, enabled=False):
            for place, keys in _parts(B, heads, N):
                scores = _scores(q, k, Bias(*bias), place, keys)
                highest = scores.amax(dim=-1, keepdim=True)
                weights = scores.sub_(highest).exp_()
                total = weights.sum(dim=-1, keepdim=True)
                _add(out, place, torch.bmm(weights, _take(v, keys)).div_(total))
                _add(norm, place, total.log_().add_(highest))
        ctx.save_for_backward(q, k, v, out, norm, *bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, norm, *bias = ctx.saved_tensors
        found = [None if x is None else x.new_zeros(x.shape, dtype=_precise(x)) for x in (q, k, v, *bias)]
        to_q, to_k, to_v, to_bias = *found[:3], Bias(*found[3:])
        scale = q.shape[-1]**-0.5
        with torch.autocast(q.device.type, enabled=False):
            for place, keys in _parts(*q.shape[:3]):
                weights = _scores(q, k, Bias(*bias), place, keys).sub_(_take(norm, place)).exp_()
                to_out = _take(grad, place)
                _add_product(to_v, keys, weights.mT, to_out)
                inner = (to_out * _take(out, place)).sum(dim=-1, keepdim=True)
                to_scores = torch.baddbmm(inner, to_out, _take(v, keys).mT, beta=-1).mul_(weights)
                to_bias.add(place, to_scores)
                _add_product(to_q, place, to_scores, _take(k, keys), scale=scale)
                _add_product(to_k, keys, to_scores.mT, _take(q, place), scale=scale)
        return tuple(x if x is None else x.to(given.dtype) for x, given in zip(found, (q, k, v, *bias), strict=True))


def _parts(B: int, heads: int, N: int) -> Iterator[tuple[Place, Place]]:
    """All queries, in parts of about `SCORES` scores a thread -> the place of the queries, and that of their keys."""
    room = SCORES * torch.get_num_threads()
    tokens = -(-N // max(1, min(round(N * N / room), N // QUERIES)))  # of a head, in parts of about one size
    some_heads = min(heads, max(1, room // (N * tokens)))
    images = min(B, max(1, room // (N * tokens * some_heads)))
    for b in range(0, B, images):
        for n in range(0, heads, some_heads):
            which = slice(b, min(b + images, B)), slice(n, min(n + some_heads, heads))
            for i in range(0, N, tokens):
                yield (*which, slice(i, min(i + tokens, N))), (*which, slice(0, N))


def _scores(q: Tensor, k: Tensor, bias: Bias, place: Place, keys: Place) -> Tensor:
    """-> q k^T / sqrt(d) + bias of the queries in `place`, (images * heads, queries, N)."""
    return bias.part(place).baddbmm_(_take(q, place), _take(k, keys).mT, alpha=q.shape[-1]**-0.5)


def _take(x: Tensor, place: Place) -> Tensor:
    """x (B, heads, N, d) -> (images * heads, tokens, d) of what is in `place`, a copy only where it must be one."""
    return x[place].flatten(0, 1).to(_precise(x))


def _add(x: Tensor, place: Place, value: Tensor) -> None:
    """Adds (images * heads, tokens, d) to what is in `place` of x (B, heads, N, d)."""
    part = x[place]
    part += value.view(part.shape)


def _add_product(x: Tensor, place: Place, a: Tensor, b: Tensor, *, scale: float = 1.0) -> None:
    """Adds scale * a b to what is in `place` of x (B, heads, N, d), which is contiguous: a part of it is a view."""
    x[place].flatten(0, 1).baddbmm_(a, b, alpha=scale)


def _precise(x: Tensor) -> torch.dtype:
    """float32, or float64 for x in float64."""
    return torch.promote_types(x.dtype, torch.float32)
