"""Layout of the checkpoints of this package."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.blocks import DECODER
from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule

# Key in the metadata of safetensors files of `mae-backbone convert`. Its value is the name of the layout.
LAYOUT_KEY = 'mae_backbone.layout'


class Ours(Layout):
    """Encoder with the prefix `mae.encoder.` or `backbone.`, and decoder with the prefix `mae.decoder.`."""

    name, title = 'ours', 'mae_backbone'
    decoder = DECODER
    head = (Rule('head.{p}', 'head.{p}'), Rule('fc_norm.{p}', 'fc_norm.{p}'))
    encoder_prefix, decoder_prefix, classifier_prefix = 'mae.encoder.', 'mae.decoder.', 'backbone.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the prefix, the config, the metadata of a conversion, or the norm of our classifier show it."""
        meta = content.get('meta')
        config = meta.get('cfg') if isinstance(meta, dict) else None
        return (names.prefix.endswith('mae.encoder.') or (isinstance(config, str) and 'mae_backbone.' in config)
                or content.get(LAYOUT_KEY) == self.name
                or (names.prefix == 'backbone.' and 'fc_norm.weight' in names.outside))
