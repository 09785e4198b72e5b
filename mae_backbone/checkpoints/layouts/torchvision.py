"""Layout of VisionTransformer of torchvision, and of the MAE of lightly on it."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule, Rules


def block(ours: str, theirs: str) -> Rules:
    """Returns rules for a block. In its first version, the layers of the MLP are named `linear_1` and `linear_2`."""
    return (Rule(ours + '.norm1.{p}', theirs + '.ln_1.{p}'),
            Rule(ours + '.attn.qkv.{p}', theirs + '.self_attention.in_proj_{p}'),
            Rule(ours + '.attn.proj.{p}', theirs + '.self_attention.out_proj.{p}'),
            Rule(ours + '.norm2.{p}', theirs + '.ln_2.{p}'),
            Rule(ours + '.mlp.fc1.{p}', theirs + '.mlp.0.{p}'),
            Rule(ours + '.mlp.fc2.{p}', theirs + '.mlp.3.{p}'),
            Rule(ours + '.mlp.fc1.{p}', theirs + '.mlp.linear_1.{p}'),
            Rule(ours + '.mlp.fc2.{p}', theirs + '.mlp.linear_2.{p}'))


class Torchvision(Layout):
    """`vit_*` of torchvision, and MAEBackbone with MAEDecoder of lightly."""

    name, title = 'torchvision', 'torchvision ViT'
    anchor = 'conv_proj.weight'
    encoder = (Rule('patch_embed.proj.{p}', 'conv_proj.{p}'), Rule('cls_token', 'class_token'),
               Rule('pos_embed', 'encoder.pos_embedding'), Rule('norm.{p}', 'encoder.ln.{p}'),
               *block('blocks.{i}', 'encoder.layers.encoder_layer_{i}'))
    decoder = (Rule('decoder_embed.{p}', 'decoder.decoder_embed.{p}'), Rule('mask_token', 'mask_token'),
               Rule('decoder_pos_embed', 'decoder.pos_embedding'), Rule('decoder_norm.{p}', 'decoder.ln.{p}'),
               Rule('decoder_pred.{p}', 'decoder.prediction_head.{p}'),
               *block('decoder_blocks.{i}', 'decoder.layers.encoder_layer_{i}'))
    decoder_anchor = 'decoder.decoder_embed.weight'
    head = (Rule('head.{p}', 'heads.head.{p}'),)
    encoder_prefix = 'backbone.'
    ignored = ('heads.{rest}',)

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there is a class token."""
        return names.has('class_token')
