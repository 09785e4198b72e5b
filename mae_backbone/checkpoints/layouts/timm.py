"""Layouts of VisionTransformer and BEiT of timm."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.blocks import SAME, bias_of_beit, folded
from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule, add_missing_class_row, drop_class_row, no_positions

_LAST = ('blocks.{i}.attn.proj', 'blocks.{i}.mlp.fc2')


class TimmBEiT(Layout):
    """BEiT, with relative positions and LayerScale, and without bias of the key and absolute positions."""

    name, title = 'timm-beit', 'timm BEiT'
    encoder = (*folded(*_LAST, 'blocks.{i}.gamma_1', 'blocks.{i}.gamma_2'), bias_of_beit('blocks.{i}.attn'), *SAME)
    aliases = (Rule('pos_embed', 'cls_token', join=no_positions),)

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if query and value have separate biases."""
        return names.has('blocks.0.attn.q_bias')


class TimmPatches(Layout):
    """A ViT without class token. timm stores no position for the class token, and our models store one."""

    name, title = 'timm-patches', 'timm ViT without class token'
    encoder = (Rule('pos_embed', 'pos_embed', join=add_missing_class_row, split=drop_class_row),
               *folded(*_LAST, 'blocks.{i}.ls1.gamma', 'blocks.{i}.ls2.gamma'), *SAME)
    head = (Rule('head.{p}', 'head.{p}'), Rule('fc_norm.{p}', 'fc_norm.{p}'))

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there is no class token. This layout is tried after the other layouts with the same anchor."""
        return not names.has('cls_token')


class Timm(Layout):
    """VisionTransformer of timm. Its names are our names. LayerScale is multiplied into the weights."""

    name, title = 'timm', 'timm ViT'
    encoder = (*folded(*_LAST, 'blocks.{i}.ls1.gamma', 'blocks.{i}.ls2.gamma'), *SAME)
    head = (Rule('head.{p}', 'head.{p}'), Rule('fc_norm.{p}', 'fc_norm.{p}'))

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """Always True: of the layouts with this anchor, it is the last one that is tried."""
        return True
