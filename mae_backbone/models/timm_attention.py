"""Attention weights of a single patch in a ViT of timm."""
import threading

import torch
from torch import Tensor, nn

from mae_backbone.models.timm_vit import TimmViT

_LOCK = threading.Lock()  # meanwhile the attention of a block is switched to its explicit form


@torch.no_grad()
def timm_attention_from(vit: TimmViT, images: Tensor, patch: tuple[int, int], *, block: int = -1
                        ) -> tuple[Tensor, Tensor]:
    """Computes how much a patch attends to all others in one block of a model of timm.

    Args:
        vit: in evaluation mode.
        images, patch, block: as in `core.attention_from.attention_from`.

    Returns:
        Weights (B, heads, h, w) of the patches, and (B, heads) of the class token and registers together.

    Raises:
        ValueError: there is no such block or patch, the block has windows, or its attention is of a kind whose weights
            cannot be read.
    """
    (h, w), depth = vit.check(images), vit.arch.depth
    if not -depth <= block < depth:
        raise ValueError(f'block={block}, the {depth} blocks are numbered from 0, or from -1 backwards')
    if not (0 <= patch[0] < h and 0 <= patch[1] < w):
        raise ValueError(f'patch={patch} is not on the grid of {h}x{w} patches')
    if getattr(vit.vit.blocks[block], 'window_size', 0):
        raise ValueError(f'block {block % depth} of {vit.name} attends within windows: choose one of the blocks '
                         f'{", ".join(map(str, timm_attention_blocks(vit)))}')
    weights = _weights(vit, images, block % depth)
    first = weights.shape[-1] - h * w  # class token and registers come first
    row = weights.unflatten(0, (len(images), -1)).flatten(1, -3)[:, :, first + patch[0] * w + patch[1]].float()
    return row[..., first:].unflatten(2, (h, w)), row[..., :first].sum(2)


def timm_attention_blocks(vit: TimmViT) -> list[int]:
    """Indices of the blocks whose attention can be computed: without windows, and with weights that can be read."""
    return [i for i, block in enumerate(vit.vit.blocks)
            if not getattr(block, 'window_size', 0) and _readable(block.attn)]


def _readable(attn: nn.Module) -> bool:
    return isinstance(getattr(attn, 'attn_drop', None), nn.Module) and hasattr(attn, 'fused_attn')


def _weights(vit: TimmViT, images: Tensor, block: int) -> Tensor:
    """Attention weights (B, heads, N, N) of a block, or (B * heads, N, N): the input of the dropout after its softmax.
    """
    attn = vit.vit.blocks[block].attn
    if not _readable(attn):
        raise ValueError(f'the attention of {vit.name} ({type(attn).__name__} of timm) does not show its weights: use '
                         'the features of this model')
    found: list[Tensor] = []
    thread = threading.get_ident()

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == thread:  # other threads may predict at the same time
            found.append(inputs[0])
    with _LOCK:
        fused, hook = attn.fused_attn, attn.attn_drop.register_forward_pre_hook(keep)
        try:
            attn.fused_attn = False
            vit.feature_maps(images, (block,))
        finally:
            attn.fused_attn = fused
            hook.remove()
    return found[0]
