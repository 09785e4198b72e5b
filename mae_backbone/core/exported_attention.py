"""Attention in an exported graph: a part of the queries at a time, so that the scores of all are never in memory."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Our choice. Bytes of the scores of one image that are computed at once.
SCORE_BYTES = 2 ** 28
GROWTH = 4      # more tokens than in the example, if their number is dynamic: images of twice its sides
MAX_PARTS = 32  # nodes of a graph grow with the number of parts


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor,
                    bias_of: Callable[[Tensor | None], Tensor] | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of q, k, v (B, heads, N, d), as operations that ONNX has.

    The number of parts is fixed in the graph: it is chosen for the example that the graph is recorded with. Each part
    has all keys of its queries, so that the result is exact.

    Args:
        q, k, v: queries, keys and values.
        bias_of: places (n,) of queries -> their bias, which broadcasts to (B, heads, n, N); for None of all queries.
    """
    parts = num_parts(q)
    if parts == 1:
        return F.scaled_dot_product_attention(q, k, v, None if bias_of is None else bias_of(None))
    N = q.shape[2]
    size = (N + parts - 1) // parts + 1  # never 1, of which torch.export makes a special case
    mixed = []
    for part in range(parts):  # the last queries are repeated in the last part
        places = (torch.arange(size, device=q.device) + part * size).clamp(max=N - 1)
        mixed.append(F.scaled_dot_product_attention(q.index_select(2, places), k, v,
                                                    None if bias_of is None else bias_of(places)))
    return torch.cat(mixed, dim=2).index_select(2, torch.arange(N, device=q.device))


def num_parts(q: Tensor) -> int:
    """Number of parts for queries (B, heads, N, d)."""
    N, heads = q.shape[2], q.shape[1]
    tokens = N
    if not isinstance(N, int):  # a symbol, which knows its value in the example
        hint = getattr(getattr(N, 'node', None), 'hint', None)
        tokens = GROWTH * hint if isinstance(hint, int) else 1
    return min(MAX_PARTS, -(-4 * int(heads) * tokens ** 2 // SCORE_BYTES))
