"""Layout of the public MAE code (facebookresearch/mae): encoder, encoder with decoder, or fine-tuned classifier."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.blocks import DECODER
from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule


class PublicMAE(Layout):
    """Files of the public MAE code. Their names are our names."""

    name, title = 'mae', 'facebookresearch/mae'
    decoder = DECODER
    head = (Rule('head.{p}', 'head.{p}'), Rule('fc_norm.{p}', 'fc_norm.{p}'))

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there is no prefix, and there is a decoder or the top-level key `model`."""
        return names.prefix in ('', 'module.') and (names.has('decoder_embed.weight') or 'model' in content)
