"""lightly's MAE on timm's ViT."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.blocks import DECODER
from mae_backbone.checkpoints.layouts.layout import Layout, Names


class Lightly(Layout):
    """MaskedVisionTransformerTIMM and MAEDecoderTIMM, as lightly's example names them in its module."""

    name, title = 'lightly', 'lightly MAE'
    decoder = DECODER
    encoder_prefix, decoder_prefix, classifier_prefix = 'backbone.vit.', 'decoder.', 'backbone.vit.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the prefix `vit.`, with the mask token or the decoder next to it."""
        root = names.prefix.removesuffix('vit.')
        return names.prefix.endswith('vit.') and not names.outside.isdisjoint({
            root + 'mask_token', root.removesuffix('backbone.') + 'decoder.decoder_embed.weight'})
