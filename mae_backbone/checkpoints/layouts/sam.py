"""Layouts of the image encoder of SAM in segment-anything and timm: windows, relative positions, no class token."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule, add_class_row, drop_class_row_to_grid

_POSITIONS = Rule('pos_embed', 'pos_embed', join=add_class_row, split=drop_class_row_to_grid)


class SegmentAnything(Layout):
    """`image_encoder.` of segment-anything. Its neck is not loaded."""

    name, title = 'sam', 'segment-anything'
    encoder = (_POSITIONS, Rule('blocks.{i}.mlp.fc1.{p}', 'blocks.{i}.mlp.lin1.{p}'),
               Rule('blocks.{i}.mlp.fc2.{p}', 'blocks.{i}.mlp.lin2.{p}'), Rule('{rest}', '{rest}'))
    ignored = ('neck.{rest}',)

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the layers of the MLP have the names of segment-anything."""
        return names.has('blocks.0.mlp.lin1.weight')


class TimmSAM(Layout):
    """`samvit_*` of timm. Its neck and head are not loaded."""

    name, title = 'timm-sam', 'timm SAM'
    encoder = (_POSITIONS, Rule('{rest}', '{rest}'))
    ignored = ('neck.{rest}', 'head.{rest}')

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there is the neck of SAM, a sequence of two convolutions with norms."""
        return names.has('neck.0.weight') and names.has('neck.3.bias')
