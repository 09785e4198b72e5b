"""Layouts of OpenMMLab: MAE and ViT of mmpretrain, MAE, BEiT and ViT of mmseg, and ViTDet of the projects of mmdet."""
from collections.abc import Mapping
from typing import Any, ClassVar

from mae_backbone.checkpoints.layouts.blocks import bias_of_beit, folded
from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule, Rules, no_positions


def block(ours: str, theirs: str) -> Rules:
    """Returns rules for a block of mmpretrain."""
    return (Rule(ours + '.norm1.{p}', theirs + '.ln1.{p}'),
            Rule(ours + '.attn.qkv.{p}', theirs + '.attn.qkv.{p}'),
            Rule(ours + '.attn.proj.{p}', theirs + '.attn.proj.{p}'),
            Rule(ours + '.norm2.{p}', theirs + '.ln2.{p}'),
            Rule(ours + '.mlp.fc1.{p}', theirs + '.ffn.layers.0.0.{p}'),
            Rule(ours + '.mlp.fc2.{p}', theirs + '.ffn.layers.1.{p}'))


_EMBEDDINGS = (Rule('patch_embed.proj.{p}', 'patch_embed.projection.{p}'), Rule('cls_token', 'cls_token'),
               Rule('pos_embed', 'pos_embed'), Rule('norm.{p}', 'ln1.{p}'))


class Mmpretrain(Layout):
    """MAE (backbone and neck) and VisionTransformer of mmpretrain.

    In the sin-cos positions of its MAE, rows and columns are exchanged. The positions in the file are used, because the
    weights were trained with them.
    """

    name, title = 'mmpretrain', 'mmpretrain MAE and ViT'
    anchor = 'patch_embed.projection.weight'
    encoder: ClassVar[Rules] = (*_EMBEDDINGS, *block('blocks.{i}', 'layers.{i}'))
    aliases: ClassVar[Rules] = (Rule('blocks.{i}.norm1.{p}', 'layers.{i}.norm1.{p}'),
               Rule('blocks.{i}.norm2.{p}', 'layers.{i}.norm2.{p}'),
               Rule('norm.{p}', 'norm1.{p}'))
    decoder: ClassVar[Rules] = (*(Rule(name, name) for name in ('decoder_embed.{p}', 'mask_token', 'decoder_pos_embed',
                                               'decoder_pred.{p}')),
               Rule('decoder_norm.{p}', 'ln1.{p}'), *block('decoder_blocks.{i}', 'decoder_blocks.{i}'))
    head: ClassVar[Rules] = (Rule('head.{p}', 'head.fc.{p}'), Rule('fc_norm.{p}', 'backbone.ln2.{p}'))
    encoder_prefix, decoder_prefix, classifier_prefix = 'backbone.', 'neck.', 'backbone.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """Always True: this layout is tried after the layouts of mmseg and mmdet, which have the same anchor."""
        return True


class MmsegBEiT(Mmpretrain):
    """MAE and BEiT of mmseg, with LayerScale and relative positions in each block. BEiT has no absolute positions."""

    name, title = 'mmseg', 'mmseg MAE and BEiT'
    encoder = (*folded('layers.{i}.attn.proj', 'layers.{i}.ffn.layers.1', 'layers.{i}.gamma_1', 'layers.{i}.gamma_2'),
               *Mmpretrain.encoder, bias_of_beit('layers.{i}.attn'),
               Rule('blocks.{i}.attn.relative_position_bias_table', 'layers.{i}.attn.relative_position_bias_table'))
    aliases = (Rule('pos_embed', 'cls_token', join=no_positions),)
    decoder, head = (), ()
    encoder_prefix = 'backbone.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there are LayerScale or tables of relative positions."""
        return names.has('layers.0.gamma_1', 'layers.0.attn.relative_position_bias_table')


class MmsegViT(Mmpretrain):
    """VisionTransformer of mmseg, whose attention is `torch.nn.MultiheadAttention`."""

    name, title = 'mmseg-vit', 'mmseg ViT'
    encoder = (Rule('blocks.{i}.attn.qkv.{p}', 'layers.{i}.attn.attn.in_proj_{p}'),
               Rule('blocks.{i}.attn.proj.{p}', 'layers.{i}.attn.attn.out_proj.{p}'),
               *(rule for rule in Mmpretrain.encoder if '.attn.' not in rule.ours))
    aliases, decoder, head = (), (), ()

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the weights of the attention have the names of `torch.nn.MultiheadAttention`."""
        return names.has('layers.0.attn.attn.in_proj_weight')


class MmdetViTDet(Mmpretrain):
    """ViTDet of `projects/ViTDet` on a ViT of mmpretrain, with relative positions as in detectron2.

    Windows at the edges are padded with zeros after the projection to queries, keys and values
    (`WindowMultiheadAttention`). detectron2 and our ViT pad them before the projection, so that key and value of the
    padding are the bias.
    """

    name, title = 'mmdet', "mmdet ViTDet, on mmpretrain's ViT"
    encoder = (*Mmpretrain.encoder, Rule('blocks.{i}.attn.rel_pos_h', 'layers.{i}.attn.rel_pos_h'),
               Rule('blocks.{i}.attn.rel_pos_w', 'layers.{i}.attn.rel_pos_w'))
    decoder, head = (), ()
    remark = ('windows: this model fills windows at the edges with zeros after the projection to queries, keys and '
              'values, and we fill them before it, as detectron2. Features differ near the right and lower edge if a '
              'side in patches is not a multiple of the window')
    ignored = (*Mmpretrain.ignored, 'res_modify_block_{rest}')

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there are tables of relative positions."""
        return names.has('layers.0.attn.rel_pos_h')
