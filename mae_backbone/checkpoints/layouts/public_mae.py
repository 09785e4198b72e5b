"""The public MAE code (facebookresearch/mae): encoder only, with decoder, or fine-tuned."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.blocks import DECODER
from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule


class PublicMAE(Layout):
    """Our names are the names of this layout."""

    name, title = 'mae', 'facebookresearch/mae'
    decoder = DECODER
    head = (Rule('head.{p}', 'head.{p}'), Rule('fc_norm.{p}', 'fc_norm.{p}'))

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the decoder, or by the key `model` next to the arguments of the code."""
        return names.prefix in ('', 'module.') and (names.has('decoder_embed.weight') or 'model' in content)
