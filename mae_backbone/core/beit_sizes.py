"""BEiT of timm for images of any size. Its tables of relative positions are resized for the grid of the images."""
from collections.abc import Sequence

import torch
from timm.models import beit
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mae_backbone.core.exporting import is_static
from mae_backbone.core.relative_bias import bias_of


class AnySizeAttention(beit.Attention):
    """Attention of BEiT for patches on `grid` (h, w), which the caller of the block sets; None for the built size."""

    grid: tuple[int, int] | None = None

    def _get_rel_pos_bias(self) -> Tensor:
        """-> bias (1, heads, 1 + h*w, 1 + h*w)."""
        if self.grid is None or (is_static(self.grid) and self.grid == tuple(self.window_size)):
            return super()._get_rel_pos_bias()
        return bias_of(self.relative_position_bias_table, self.window_size, self.grid, class_token=True)[None]


def allow_any_size(vit: beit.Beit) -> None:
    """Changes a BEiT so that `beit_tokens` supports images of any size.

    Names of parameters, and outputs for images of the size for which the model was built, do not change.
    """
    vit.patch_embed.strict_img_size = False
    for block in vit.blocks:
        block.attn.__class__ = AnySizeAttention


def beit_tokens(vit: beit.Beit, images: Tensor, indices: Sequence[int], *, norm: bool) -> list[Tensor]:
    """images (B, C, H, W) -> tokens (B, 1 + L, D) after each of the blocks `indices`, in ascending order.

    The results equal the results of `forward_intermediates` of timm, which supports only the image size of the tables.

    Raises:
        ValueError: the model has absolute positions, for one size only, and the images have another size.
    """
    p = vit.patch_embed.patch_size[0]
    grid = (images.shape[2] // p, images.shape[3] // p)
    native = tuple(vit.patch_embed.grid_size)
    if vit.pos_embed is not None and not (is_static(grid) and grid == native):
        raise ValueError(f'images have {grid[0]}x{grid[1]} patches, but this BEiT has absolute positions for '
                         f'{native[0]}x{native[1]}: set image_size of the backbone to the size of the images')
    tokens = vit.patch_embed(images)
    tokens = torch.cat([vit.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
    if vit.pos_embed is not None:
        tokens = tokens + vit.pos_embed
    tokens, outputs = vit.pos_drop(tokens), []
    shared = _shared_bias(vit, grid)
    for i, block in enumerate(vit.blocks[:max(indices) + 1]):
        if vit.grad_checkpointing and torch.is_grad_enabled():
            tokens = checkpoint(_run, block, tokens, grid, shared, use_reentrant=False)
        else:
            tokens = _run(block, tokens, grid, shared)
        if i in indices:
            outputs.append(vit.norm(tokens) if norm else tokens)
    return outputs


def _run(block: nn.Module, tokens: Tensor, grid: tuple[int, int], shared: Tensor | None) -> Tensor:
    # Set for each call, because a recomputation in the backward pass must use the grid of the same images.
    block.attn.grid = grid  # type: ignore[union-attr]
    return block(tokens, shared_rel_pos_bias=shared)


def _shared_bias(vit: beit.Beit, grid: tuple[int, int]) -> Tensor | None:
    shared = vit.rel_pos_bias
    if shared is None or (is_static(grid) and grid == tuple(shared.window_size)):
        return None if shared is None else shared()
    return bias_of(shared.relative_position_bias_table, shared.window_size, grid, class_token=True)
