"""Attention weights of a single patch in a block."""
from typing import cast

import torch
from torch import Tensor

from mae_backbone.core.attention import Attention, relative
from mae_backbone.core.checkpointing import run_block
from mae_backbone.core.relative_bias import bias_of
from mae_backbone.core.vit import Block, ViT
from mae_backbone.core.windows import Windows


@torch.no_grad()
def attention_from(vit: ViT, images: Tensor, patch: tuple[int, int], *, block: int = -1) -> tuple[Tensor, Tensor]:
    """Computes the attention weights of one patch for all patches in one block.

    Only the row of the query is computed, so that no N x N matrix is stored.

    Args:
        vit: encoder in evaluation mode.
        images: (B, C, H, W), normalized.
        patch: (row, column) of the query on the grid of the patches.
        block: index of the block; -1 is the last one.

    Returns:
        Weights (B, heads, h, w) of the patches, and (B, heads) of the class token (0 if there is none). Their sum is 1,
        except in a window at the edge, where the padding has the remaining weight.

    Raises:
        ValueError: the block or the patch does not exist, or the images do not fit the model.
    """
    (h, w), depth = vit.check(images), len(vit.blocks)
    if not -depth <= block < depth:
        raise ValueError(f'block={block}, the {depth} blocks are numbered from 0, or from -1 backwards')
    if not (0 <= patch[0] < h and 0 <= patch[1] < w):
        raise ValueError(f'patch={patch} is not on the grid of {h}x{w} patches')
    tokens, bias = vit.start(images)
    for earlier in vit.blocks[:block % depth]:
        tokens = run_block(earlier, tokens, (h, w), bias=bias, training=False)
    layer = cast(Block, vit.blocks[block])
    windows = Windows((h, w), layer.window_size, layer.shift) if layer.window_size else None
    first = tokens.shape[1] - h * w  # 1 with a class token
    query = first + patch[0] * w + patch[1]
    weights = attention_row(layer.attn, layer.norm1(tokens), query, (h, w), bias=bias, windows=windows)
    return weights[..., first:].unflatten(2, (h, w)), weights[..., :first].sum(2)


def attention_row(attn: Attention, tokens: Tensor, query: int, grid: tuple[int, int], *, bias: Tensor | None = None,
                  windows: Windows | None = None) -> Tensor:
    """Attention weights (B, heads, N) of the token with the index `query` for all N tokens.

    Args:
        attn: attention of a block.
        tokens: (B, N, D) after the norm of the block.
        query: index of a token.
        grid, bias, windows: as in `Attention.forward`.
    """
    if windows is None:
        return _row(attn, attn.qkv(tokens), query, grid, bias)
    index = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)  # 0 is padding
    places = windows.split(index[None, :, None])[..., 0]  # (windows, size * size)
    window, place = (places == query + 1).nonzero()[0].tolist()
    qkv = windows.split(attn.qkv(tokens), attn.qkv.bias).unflatten(0, (len(tokens), -1))[:, window]
    inside = _row(attn, qkv, place, (windows.size, windows.size), None)
    weights = inside.new_zeros(*inside.shape[:2], tokens.shape[1] + 1)
    weights[..., places[window]] = inside  # the padding is written to entry 0, again and again
    return weights[..., 1:]


def _row(attn: Attention, qkv: Tensor, query: int, grid: tuple[int, int], bias: Tensor | None) -> Tensor:
    """qkv (B, N, 3D) -> (B, heads, N)."""
    q, k, _ = qkv.unflatten(2, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4).float()
    q = q[:, :, query]  # (B, heads, d)
    scores = torch.einsum('bhd,bhnd->bhn', q * q.shape[-1] ** -0.5, k)
    if attn.rel_pos_h is not None and attn.rel_pos_w is not None:
        row, column = divmod(query, grid[1])
        rows = torch.einsum('bhd,sd->bhs', q, relative(attn.rel_pos_h, grid[0])[row].float())
        columns = torch.einsum('bhd,sd->bhs', q, relative(attn.rel_pos_w, grid[1])[column].float())
        scores = scores + (rows[..., :, None] + columns[..., None, :]).flatten(2)
    elif attn.bias_size is not None:
        with_class = k.shape[2] > grid[0] * grid[1]
        table = bias_of(attn.relative_position_bias_table, attn.bias_size, grid, class_token=with_class)
        scores = scores + table[:, query].float()
    elif bias is not None:
        scores = scores + bias[:, query].float()
    return scores.softmax(-1)
