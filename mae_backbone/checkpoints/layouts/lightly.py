"""Layout of the MAE of lightly on a ViT of timm."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.blocks import DECODER
from mae_backbone.checkpoints.layouts.layout import Layout, Names


class Lightly(Layout):
    """MaskedVisionTransformerTIMM and MAEDecoderTIMM, with the attribute names of the example of lightly."""

    name, title = 'lightly', 'lightly MAE'
    decoder = DECODER
    encoder_prefix, decoder_prefix, classifier_prefix = 'backbone.vit.', 'decoder.', 'backbone.vit.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the prefix ends with `vit.`, and the mask token or the decoder are outside of it."""
        root = names.prefix.removesuffix('vit.')
        return names.prefix.endswith('vit.') and not names.outside.isdisjoint({
            root + 'mask_token', root.removesuffix('backbone.') + 'decoder.decoder_embed.weight'})
