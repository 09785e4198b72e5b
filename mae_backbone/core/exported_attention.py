"""Attention for exported graphs. It processes a part of the queries at a time, to limit the memory of the scores."""
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Our choice. Largest number of bytes of the scores of an image that are computed at once.
SCORE_BYTES = 2 ** 28
GROWTH = 4      # if the number of tokens is dynamic, factor by which it may grow: images of twice the height and width
MAX_PARTS = 32  # limit of the number of parts, because each part adds nodes to the graph


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor,
                    bias_of: Callable[[Tensor | None], Tensor] | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v of q, k, v (B, heads, N, d), with operations that ONNX supports.

    The number of parts is fixed in the graph. It is chosen for the example with which the graph is recorded. Each part
    uses all keys, so that the result is exact.

    Args:
        q, k, v: queries, keys and values.
        bias_of: function from the indices (n,) of queries to their bias, which broadcasts to (B, heads, n, N). For None
            it returns the bias of all queries.
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
    """Returns the number of parts for queries (B, heads, N, d)."""
    N, heads = q.shape[2], q.shape[1]
    tokens = N
    if not isinstance(N, int):  # a symbol; its hint is the value in the example
        hint = getattr(getattr(N, 'node', None), 'hint', None)
        tokens = GROWTH * hint if isinstance(hint, int) else 1
    return min(MAX_PARTS, -(-4 * int(heads) * tokens ** 2 // SCORE_BYTES))
