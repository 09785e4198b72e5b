"""Rename rules that several layouts share."""
from mae_backbone.checkpoints.layouts.rules import Rule, Rules, cat_without_key, fold_scale

SAME = (Rule('{rest}', '{rest}'),)

# Rules for a decoder with the names of the public MAE code.
DECODER = tuple(Rule(name, name) for name in (
    'decoder_embed.{p}', 'mask_token', 'decoder_pos_embed', 'decoder_blocks.{i}.{rest}', 'decoder_norm.{p}',
    'decoder_pred.{p}'))


def folded(last_of_attention: str, last_of_mlp: str, scale_1: str, scale_2: str) -> Rules:
    """Returns rules that multiply LayerScale into the last layers of attention and MLP.

    The outputs of the model do not change. The rules have no inverse.

    Args:
        last_of_attention, last_of_mlp: templates of the names of the last layers, without `.weight` and `.bias`.
        scale_1, scale_2: templates of the names of the scales of attention and MLP.
    """
    return (Rule('blocks.{i}.attn.proj.{p}', last_of_attention + '.{p}', scale_1, join=fold_scale),
            Rule('blocks.{i}.mlp.fc2.{p}', last_of_mlp + '.{p}', scale_2, join=fold_scale))


def bias_of_beit(block: str) -> Rule:
    """Returns the rule for the biases of query and value of BEiT. `block` is the template of the attention."""
    return Rule('blocks.{i}.attn.qkv.bias', block + '.q_bias', block + '.v_bias', join=cat_without_key)
