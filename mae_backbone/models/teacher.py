"""Frozen encoders of the visible patches of a mask."""
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.core.masking import Mask
from mae_backbone.core.patches import patchify
from mae_backbone.core.vit import ViT

if TYPE_CHECKING:
    from mae_backbone.models.timm_vit import TimmViT


TIMM = 'mae_backbone.TimmViT'


def build_encoder(config: dict, *, image_size: tuple[int, int]) -> 'ViT | TimmViT':
    """Builds a teacher, without its weights yet.

    Args:
        config: arguments of `ViT`, or with `type='mae_backbone.TimmViT'` of `TimmViT`.
        image_size: (H, W) in pixels for which a `ViT` stores positions.

    Raises:
        ValueError: another class, or a model of timm that cannot take single patches.
    """
    config = dict(config)
    kind = config.pop('type', None)
    if kind is None:
        return ViT(**{'image_size': image_size, **config})
    if kind != TIMM:
        raise ValueError(f"the encoder of a teacher has type={kind!r}, expected {TIMM!r}, or no type for a ViT")
    from timm.models.vision_transformer import VisionTransformer

    from mae_backbone.models.timm_vit import TimmViT
    encoder = TimmViT(**config)
    if type(encoder.vit) is not VisionTransformer:
        raise ValueError(f'{encoder.name} is a {type(encoder.vit).__name__} of timm, which cannot be a teacher: it has '
                         'relative or rotary positions or windows, and cannot see only the visible patches. Take a '
                         'ViT of this package (MAE), or a VisionTransformer of timm, such as DINOv2, DeiT III, CLIP or '
                         'SigLIP')
    return encoder


def load_weights(encoder: 'ViT | TimmViT', checkpoint: str | Path, *, key: str | None = None,
                 heads: int | None = None) -> None:
    """Loads the weights of a teacher, freezes it, and puts it in evaluation mode; `key`, `heads`: see `load_encoder`.
    """
    if isinstance(encoder, ViT):
        load_encoder(encoder, checkpoint, key=key, heads=heads)
    else:
        if heads not in (None, encoder.arch.heads):
            raise CheckpointError(f'the weights have {heads} heads of attention, {encoder.name} has '
                                  f'{encoder.arch.heads}: name the model of timm that they belong to')
        encoder.load_weights(checkpoint, key=key)
    encoder.requires_grad_(False).eval()


def drop_blocks(encoder: 'ViT | TimmViT', blocks: int) -> None:
    """Removes all but the first `blocks` blocks, which need not be computed, to save memory."""
    del (encoder if isinstance(encoder, ViT) else encoder.vit).blocks[blocks:]


def encode_visible(encoder: 'ViT | TimmViT', images: Tensor, mask: Mask, blocks: int) -> Tensor:
    """Tokens (B, T + K, D) of the visible patches after the first `blocks` blocks, without the last norm.

    Args:
        encoder: of `build_encoder`.
        images: (B, C, H, W), with as many patches of the encoder as the mask has.
        mask: K visible patches of each image.
        blocks: number of blocks; the others are not computed.

    Returns:
        T tokens of the encoder, such as its class token, which comes first, and then the visible patches.
    """
    if isinstance(encoder, ViT):
        patches = patchify(images, encoder.patch_size)
        return encoder.encode_until(encoder.embed_visible(patches, mask, encoder.check(images)), blocks)
    vit = encoder.vit
    tokens = vit._pos_embed(vit.patch_embed(images))                        # (B, T + L, D)
    T = tokens.shape[1] - mask.ids_restore.shape[1]
    tokens = torch.cat([tokens[:, :T], mask.take_visible(tokens[:, T:])], dim=1)
    tokens = vit.norm_pre(tokens)
    for block in vit.blocks[:blocks]:
        tokens = block(tokens)
    return tokens


def block_of(encoder: 'ViT | TimmViT', index: int) -> nn.Module:
    """A block of a ViT of this package or of timm."""
    blocks: Any = encoder.blocks if isinstance(encoder, ViT) else encoder.vit.blocks
    return blocks[index]


def has_class_token(encoder: 'ViT | TimmViT') -> bool:
    """True if the first token of `encode_visible` is a class token."""
    return encoder.cls_token is not None


def attention_scores(block: Any, tokens: Tensor) -> Tensor:
    """q k^T / sqrt(d) (B, heads, N, N) that a block computes of its input tokens (B, N, D)."""
    attn = block.attn
    heads = attn.heads if hasattr(attn, 'heads') else attn.num_heads  # here, and in timm
    q, k, _ = attn.qkv(block.norm1(tokens)).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    if hasattr(attn, 'q_norm'):
        q, k = attn.q_norm(q), attn.k_norm(k)
    return q @ k.mT * q.shape[-1] ** -0.5
