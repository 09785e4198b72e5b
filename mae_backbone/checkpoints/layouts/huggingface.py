"""Hugging Face transformers: ViTMAE, ViT, I-JEPA and BEiT."""
from collections.abc import Mapping
from typing import Any, ClassVar

from mae_backbone.checkpoints.layouts.blocks import folded
from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import (
    Rule,
    Rules,
    add_class_row,
    cat,
    cat_without_key,
    drop_class_row,
    no_positions,
    thirds,
)


def block(ours: str, theirs: str) -> Rules:
    """Returns rules for a block with the names in files. Version 5 of transformers reads and writes them too."""
    attention = theirs + '.attention.attention.'
    return (Rule(ours + '.attn.qkv.{p}', *(f'{attention}{part}.{{p}}' for part in ('query', 'key', 'value')),
                 join=cat, split=thirds),
            Rule(ours + '.attn.proj.{p}', theirs + '.attention.output.dense.{p}'),
            Rule(ours + '.norm1.{p}', theirs + '.layernorm_before.{p}'),
            Rule(ours + '.norm2.{p}', theirs + '.layernorm_after.{p}'),
            Rule(ours + '.mlp.fc1.{p}', theirs + '.intermediate.dense.{p}'),
            Rule(ours + '.mlp.fc2.{p}', theirs + '.output.dense.{p}'))


def block_of_version_5(ours: str, theirs: str) -> Rules:
    """Returns rules for a block with the names of `state_dict` in version 5 of transformers."""
    return (Rule(ours + '.attn.qkv.{p}', *(f'{theirs}.attention.{part}_proj.{{p}}' for part in 'qkv'), join=cat),
            Rule(ours + '.attn.proj.{p}', theirs + '.attention.o_proj.{p}'),
            Rule(ours + '.norm1.{p}', theirs + '.layernorm_before.{p}'),
            Rule(ours + '.norm2.{p}', theirs + '.layernorm_after.{p}'),
            Rule(ours + '.mlp.fc1.{p}', theirs + '.mlp.fc1.{p}'),
            Rule(ours + '.mlp.fc2.{p}', theirs + '.mlp.fc2.{p}'))


_EMBEDDINGS = (Rule('patch_embed.proj.{p}', 'embeddings.patch_embeddings.projection.{p}'),
               Rule('cls_token', 'embeddings.cls_token'),
               Rule('norm.{p}', 'layernorm.{p}'))
_POSITIONS = Rule('pos_embed', 'embeddings.position_embeddings')


class HuggingFace(Layout):
    """ViTMAEForPreTraining, ViTMAEModel, ViTModel and ViTForImageClassification."""

    name, title = 'hf', 'Hugging Face ViTMAE and ViT'
    anchor = 'embeddings.patch_embeddings.projection.weight'
    encoder: ClassVar[Rules] = (*_EMBEDDINGS, _POSITIONS, *block('blocks.{i}', 'encoder.layer.{i}'))
    aliases: ClassVar[Rules] = block_of_version_5('blocks.{i}', 'layers.{i}')
    decoder: ClassVar[Rules] = (*(Rule(name, name) for name in ('decoder_embed.{p}', 'mask_token', 'decoder_pos_embed',
                                               'decoder_norm.{p}', 'decoder_pred.{p}')),
               *block('decoder_blocks.{i}', 'decoder_layers.{i}'),
               *block_of_version_5('decoder_blocks.{i}', 'decoder_layers.{i}'),
               # Names that `save_pretrained` of transformers 5.0 to 5.24 writes.
               *block('decoder_blocks.{i}', 'decoder_encoder.layer.{i}'))
    head: ClassVar[Rules] = (Rule('head.{p}', 'classifier.{p}'),)
    encoder_prefix, decoder_prefix, classifier_prefix = 'vit.', 'decoder.', 'vit.'
    ignored: ClassVar[tuple[str, ...]] = ('pooler.{rest}', 'embeddings.mask_token', '{rest}.relative_position_index')

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there is a class token, but no LayerScale of BEiT or DINOv2."""
        return names.has('embeddings.cls_token') and not names.has('{rest}.lambda_1', '{rest}.lambda1')


class HuggingFaceIJEPA(HuggingFace):
    """IJepaModel, which has no class token."""

    name, title = 'hf-ijepa', 'Hugging Face I-JEPA'
    encoder = (*_EMBEDDINGS, *block('blocks.{i}', 'encoder.layer.{i}'),
               Rule('pos_embed', 'embeddings.position_embeddings', join=add_class_row, split=drop_class_row))
    decoder, head = (), ()

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there is neither a class token nor LayerScale."""
        return not names.has('embeddings.cls_token', '{rest}.lambda_1', '{rest}.lambda1')


class HuggingFaceBEiT(HuggingFace):
    """BeitModel with `use_relative_position_bias`, or with one table for all blocks."""

    name, title = 'hf-beit', 'Hugging Face BEiT'
    _bias = tuple(Rule('blocks.{i}.attn.qkv.bias', *(theirs.format(part=part) for part in parts), join=cat_without_key)
                  for theirs, parts in (('encoder.layer.{{i}}.attention.attention.{part}.bias', ('query', 'value')),
                                        ('layers.{{i}}.attention.{part}_proj.bias', 'qv')))
    _table = 'relative_position_bias.relative_position_bias_table'
    encoder = (*folded('encoder.layer.{i}.attention.output.dense', 'encoder.layer.{i}.output.dense',
                       'encoder.layer.{i}.lambda_1', 'encoder.layer.{i}.lambda_2'),
               *folded('layers.{i}.attention.o_proj', 'layers.{i}.mlp.fc2', 'layers.{i}.lambda_1',
                       'layers.{i}.lambda_2'),
               Rule('blocks.{i}.attn.relative_position_bias_table',
                    'encoder.layer.{i}.attention.attention.' + _table),
               Rule('blocks.{i}.attn.relative_position_bias_table', 'layers.{i}.' + _table),
               Rule('rel_pos_bias.relative_position_bias_table', 'encoder.' + _table),
               Rule('rel_pos_bias.relative_position_bias_table', _table),
               *HuggingFace.encoder, *_bias)
    aliases = (*HuggingFace.aliases, Rule('pos_embed', 'embeddings.cls_token', join=no_positions))
    decoder, head = (), ()

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if LayerScale has the name of BEiT."""
        return names.has('{rest}.lambda_1')
