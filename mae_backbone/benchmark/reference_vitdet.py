"""ViTDet's backbone, and a reference implementation of it with N x N tables of relative positions."""
from typing import Any, cast

import torch
from torch import nn

from mae_backbone.benchmark.reference_attention import ReferenceAttention
from mae_backbone.core.vit import ARCHS
from mae_backbone.models.backbone import ViTBackbone

PATCH = 16   # pixels
WINDOW = 14  # patches


def global_blocks(depth: int) -> range:
    """Indices of the blocks without windows: the last one of each quarter (ViTDet, section 3)."""
    return range(depth // 4 - 1, depth, depth // 4)


def build_vitdet(arch: str, size: int) -> ViTBackbone:
    """ViTDet's backbone with random relative positions; the same weights in every call."""
    torch.manual_seed(0)
    model = ViTBackbone(arch, image_size=size, pretrain_image_size=224, patch_size=PATCH, window_size=WINDOW,
                        relative_positions=True, global_blocks=global_blocks(ARCHS[arch].depth))
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:  # zero at the start of a training, which would make the comparison useless
            nn.init.normal_(parameter, std=0.02)
    return model


def build_reference_vitdet(arch: str, size: int) -> ViTBackbone:
    """The same with `ReferenceAttention`, and without recomputed activations."""
    model = build_vitdet(arch, size)
    for block in model.blocks:
        block.attn.__class__ = ReferenceAttention  # the same parameters under the same names
        cast(Any, block).recompute = False
    return model
