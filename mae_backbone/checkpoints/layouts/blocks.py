"""Rules that several layouts have in common."""
from mae_backbone.checkpoints.layouts.rules import Rule, Rules, cat_without_key, fold_scale

SAME = (Rule('{rest}', '{rest}'),)

# The decoder under the names of the public MAE code.
DECODER = tuple(Rule(name, name) for name in (
    'decoder_embed.{p}', 'mask_token', 'decoder_pos_embed', 'decoder_blocks.{i}.{rest}', 'decoder_norm.{p}',
    'decoder_pred.{p}'))


def folded(last_of_attention: str, last_of_mlp: str, scale_1: str, scale_2: str) -> Rules:
    """LayerScale, multiplied into the last layers of both branches: the same function, with no way back.

    Args:
        last_of_attention, last_of_mlp: their templates without `.weight` and `.bias`.
        scale_1, scale_2: templates of the scales.
    """
    return (Rule('blocks.{i}.attn.proj.{p}', last_of_attention + '.{p}', scale_1, join=fold_scale),
            Rule('blocks.{i}.mlp.fc2.{p}', last_of_mlp + '.{p}', scale_2, join=fold_scale))


def bias_of_beit(block: str) -> Rule:
    """The biases of query and value, in the attention `block` of BEiT."""
    return Rule('blocks.{i}.attn.qkv.bias', block + '.q_bias', block + '.v_bias', join=cat_without_key)
