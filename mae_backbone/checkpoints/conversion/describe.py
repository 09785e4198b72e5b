"""Describes a ViT in memory by its `Architecture`, and by the arguments with which it can be built again."""
from typing import Any

from torch import nn

from mae_backbone.checkpoints.conversion.model import Architecture
from mae_backbone.core.vit import ViT


def architecture_of(vit: ViT, **options: Any) -> Architecture:
    """Returns the architecture of a ViT. `options` are attributes of `Architecture` for other parts of the model."""
    blocks = list(vit.blocks)
    windows = [_int(block, 'window_size') for block in blocks]
    return Architecture(
        width=vit.arch.width, depth=vit.arch.depth, heads=vit.arch.heads, patch_size=vit.patch_size,
        grid=(vit.grid[0], vit.grid[1]), in_channels=vit.in_channels, class_token=vit.cls_token is not None,
        final_norm=isinstance(vit.norm, nn.LayerNorm), window_size=max(windows),
        global_blocks=tuple(i for i, window in enumerate(windows) if not window) if any(windows) else (),
        shifted_windows=any(_int(block, 'shift') for block in blocks), **options)


def arguments_of(vit: ViT) -> dict[str, Any]:
    """Returns the arguments of `ViT` with which a ViT can be built again, as values of JSON.

    Arguments that matter only in training (`checkpointing`, frozen positions) are not included.
    """
    blocks, size = list(vit.blocks), vit.patch_size
    architecture = architecture_of(vit)
    tables = [block.get_submodule('attn') for block in blocks]
    height, width = next((grid for grid in map(_table_grid, blocks) if grid), vit.grid)
    if vit.rel_pos_bias is not None:
        height, width = vit.rel_pos_bias.grid
    return dict(
        arch=dict(vit.arch._asdict()), image_size=[height * size, width * size],
        pretrain_image_size=list(architecture.image_size), patch_size=size, in_channels=vit.in_channels,
        class_token=architecture.class_token, final_norm=architecture.final_norm,
        drop_path_rate=float(getattr(blocks[-1].get_submodule('drop_path'), 'drop_prob', 0.0)),
        window_size=architecture.window_size, global_blocks=list(architecture.global_blocks),
        shifted_windows=architecture.shifted_windows,
        conv_blocks=[i for i, block in enumerate(blocks) if hasattr(block, 'residual')],
        relative_positions=getattr(tables[0], 'rel_pos_h', None) is not None, relative_bias=vit.relative_bias)


def encoder_arguments(architecture: Architecture) -> dict[str, Any]:
    """Returns the arguments of a ViT for the encoder of a stored model, without those for class token and last norm."""
    arguments: dict[str, Any] = dict(
        arch=dict(width=architecture.width, depth=architecture.depth, heads=architecture.heads),
        image_size=list(architecture.image_size), patch_size=architecture.patch_size,
        in_channels=architecture.in_channels)
    if architecture.window_size:
        arguments |= dict(window_size=architecture.window_size, global_blocks=list(architecture.global_blocks),
                          shifted_windows=architecture.shifted_windows)
    return arguments


def _table_grid(block: nn.Module) -> tuple[int, int] | None:
    """Returns the grid (h, w) of the tables of relative positions of a block; None with windows or without tables."""
    attention = block.get_submodule('attn')
    if _int(block, 'window_size'):
        return None
    height, width = getattr(attention, 'rel_pos_h', None), getattr(attention, 'rel_pos_w', None)
    if height is not None and width is not None:
        return (len(height) + 1) // 2, (len(width) + 1) // 2
    return getattr(attention, 'bias_size', None)


def _int(block: nn.Module, name: str) -> int:
    return int(getattr(block, name))
