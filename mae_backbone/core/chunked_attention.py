"""Attention with a trained bias on a CPU, a few queries at a time, in memory linear in the number of tokens.

PyTorch's fused kernel for CPUs takes no bias that requires a gradient, and without that kernel the scores are N x N. As
in FlashAttention (Dao et al., NeurIPS 2022), scores are not stored: the backward pass computes them again. Unlike
there, a chunk holds all keys of its queries, so that the softmax needs no running maximum.
"""
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

# The fastest of 1/4, 1/2, 1 and 2 times as much, measured on a Sapphire Rapids (2 MB of L2 cache per core) with 1,024
# to 16,384 tokens.
CHUNK_SCORES = 2**19  # scores in a chunk for each thread, 2 MB of float32
MIN_QUERIES = 64      # queries of a head in a chunk: flatter matrix products are slow

Chunk = tuple[slice, slice, slice]  # images, heads, tokens


class Bias(NamedTuple):
    """The bias of the scores: `rows` and `columns`, or a `table`; the others are None."""

    rows: Tensor | None     # (B, heads, N, h), on a grid of N = h*w, for the keys in each row
    columns: Tensor | None  # (B, heads, N, w), for the keys in each column
    table: Tensor | None    # (heads, N, N), for each key, the same in all images

    def of(self, queries: Chunk) -> Tensor:
        """-> bias (images * heads, tokens, N) of the queries in a chunk."""
        if self.table is not None:
            images = queries[0].stop - queries[0].start
            return self.table[queries[1:]].to(_precise(self.table)).repeat(images, 1, 1)
        assert self.rows is not None
        assert self.columns is not None
        rows, columns = _take(self.rows, queries), _take(self.columns, queries)
        return (rows[..., :, None] + columns[..., None, :]).flatten(2)

    def add_gradient(self, queries: Chunk, grad_scores: Tensor) -> None:
        """Adds the gradient of the scores of a chunk to these tensors, which are the gradient of a bias."""
        if self.table is not None:
            target = self.table[queries[1:]]
            target += grad_scores.unflatten(0, (-1, len(target))).sum(dim=0)
        elif self.rows is not None and self.columns is not None:
            grad_scores = grad_scores.unflatten(2, (self.rows.shape[-1], self.columns.shape[-1]))
            _add(self.rows, queries, grad_scores.sum(dim=-1))
            _add(self.columns, queries, grad_scores.sum(dim=-2))


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor | None = None, columns: Tensor | None = None, *,
                      table: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v on a CPU; k and v are (B, heads, N, d), q and the result (B, heads, M, d).

    Cost:
        Memory: O(N), not O(N^2). Stored for the backward pass are the inputs, the result and one number for each query
        and head. In passing, a few chunks of `CHUNK_SCORES` float32 numbers per thread, 2 MB each (more if N > 8,192:
        a chunk has at least `MIN_QUERIES` queries and all N keys). Only `table` is N x N itself.
        Time: O(N^2 d) as any exact attention. The forward pass takes two matrix products of N x N x d per head; the
        backward pass takes five, one of them to compute the scores again.

    Computes in float32 or better for any dtype of its inputs.

    Args:
        q, k, v: queries, keys and values. In the bias of M queries, M takes the place of the first N.
        rows, columns: bias of each query for the keys in each row and each column of a grid, as in `Bias`.
        table: bias of each query for each key, instead of `rows` and `columns`.
    """
    return _ChunkedAttention.apply(q, k, v, rows, columns, table)


class _ChunkedAttention(Function):
    """Stores its inputs, its result, and the logarithm of the softmax's denominator of each query."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, *bias: Tensor | None) -> Tensor:
        B, heads, M, d = q.shape
        out = q.new_zeros(B, M, heads, d).transpose(1, 2)  # so that heads are contiguous for the projection after it
        log_norm = q.new_zeros(B, heads, M, 1, dtype=_precise(q))
        with torch.autocast(q.device.type, enabled=False):
            for queries, keys in _chunks(B, heads, M, k.shape[2]):
                scores = _scores(q, k, Bias(*bias), queries, keys)
                highest = scores.amax(dim=-1, keepdim=True)
                weights = scores.sub_(highest).exp_()
                total = weights.sum(dim=-1, keepdim=True)
                _add(out, queries, torch.bmm(weights, _take(v, keys)).div_(total))
                _add(log_norm, queries, total.log_().add_(highest))
        ctx.save_for_backward(q, k, v, out, log_norm, *bias)  # type: ignore[arg-type]  # torch takes None as well
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log_norm, *bias = ctx.saved_tensors  # type: ignore[attr-defined]  # set by torch
        grad_q, grad_k, grad_v = (x.new_zeros(x.shape, dtype=_precise(x)) for x in (q, k, v))
        grad_bias = Bias(*(None if x is None else x.new_zeros(x.shape, dtype=_precise(x)) for x in bias))
        scale = q.shape[-1]**-0.5
        with torch.autocast(q.device.type, enabled=False):
            for queries, keys in _chunks(q.shape[0], q.shape[1], q.shape[2], k.shape[2]):
                weights = _scores(q, k, Bias(*bias), queries, keys).sub_(_take(log_norm, queries)).exp_()
                grad_out = _take(grad, queries)
                _add_product(grad_v, keys, weights.mT, grad_out)
                # Gradient of a softmax: weights * (grad_weights - sum(weights * grad_weights)); the sum over keys is
                # grad_out . out, as in FlashAttention.
                inner = (grad_out * _take(out, queries)).sum(dim=-1, keepdim=True)
                grad_scores = torch.baddbmm(inner, grad_out, _take(v, keys).mT, beta=-1).mul_(weights)
                grad_bias.add_gradient(queries, grad_scores)
                _add_product(grad_q, queries, grad_scores, _take(k, keys), scale=scale)
                _add_product(grad_k, keys, grad_scores.mT, _take(q, queries), scale=scale)
        grads = (grad_q, grad_k, grad_v, *grad_bias)
        return tuple(x if x is None else x.to(given.dtype) for x, given in zip(grads, (q, k, v, *bias), strict=True))


def _chunks(B: int, heads: int, M: int, N: int) -> Iterator[tuple[Chunk, Chunk]]:
    """Covers M queries of N keys with chunks of about `CHUNK_SCORES` scores per thread.

    Yields the queries of each chunk and their keys.
    """
    room = CHUNK_SCORES * torch.get_num_threads()
    # Tokens of a head first, then heads, then images: a head that does not fit is cut into chunks of about equal size.
    tokens = -(-M // max(1, min(_rounded(M * N, room), M // MIN_QUERIES)))
    chunk_heads = min(heads, max(1, room // (N * tokens)))
    chunk_images = min(B, max(1, room // (N * tokens * chunk_heads)))
    for b in range(0, B, chunk_images):
        for n in range(0, heads, chunk_heads):
            which = slice(b, min(b + chunk_images, B)), slice(n, min(n + chunk_heads, heads))
            for i in range(0, M, tokens):
                yield (*which, slice(i, min(i + tokens, M))), (*which, slice(0, N))


def _rounded(a: int, b: int) -> int:
    """round(a / b) for positive integers, without a float: half a unit goes to the even neighbor."""
    quotient, rest = divmod(a, b)
    return quotient + (2 * rest > b or (2 * rest == b and quotient % 2 == 1))


def _scores(q: Tensor, k: Tensor, bias: Bias, queries: Chunk, keys: Chunk) -> Tensor:
    """-> q k^T / sqrt(d) + bias of the queries in a chunk, (images * heads, tokens, N)."""
    return bias.of(queries).baddbmm_(_take(q, queries), _take(k, keys).mT, alpha=q.shape[-1]**-0.5)


def _take(x: Tensor, chunk: Chunk) -> Tensor:
    """x (B, heads, N, d) -> (images * heads, tokens, d) of a chunk; copies only if it must."""
    return x[chunk].flatten(0, 1).to(_precise(x))


def _add(x: Tensor, chunk: Chunk, value: Tensor) -> None:
    """Adds (images * heads, tokens, d) to a chunk of x (B, heads, N, d)."""
    target = x[chunk]
    target += value.view(target.shape)


def _add_product(x: Tensor, chunk: Chunk, a: Tensor, b: Tensor, *, scale: float = 1.0) -> None:
    """Adds scale * a b to a chunk of x (B, heads, N, d). x is contiguous, so that flattening a chunk gives a view."""
    x[chunk].flatten(0, 1).baddbmm_(a, b, alpha=scale)


def _precise(x: Tensor) -> torch.dtype:
    """float32, or float64 for x in float64."""
    return torch.promote_types(x.dtype, torch.float32)
