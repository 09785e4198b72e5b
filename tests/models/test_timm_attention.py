"""Attention of a patch in models of timm."""
import pytest
import torch
from torch.testing import assert_close

from mae_backbone.models.timm_attention import timm_attention_blocks, timm_attention_from
from mae_backbone.models.timm_vit import TimmViT

SMALL = dict(depth=2, embed_dim=48, num_heads=4, image_size=32, patch_size=8)
MODELS = {
    'class token': ('vit_tiny_patch16_224', {}),
    'registers': ('vit_small_patch14_reg4_dinov2', {}),
    'rotary positions': ('eva02_tiny_patch14_224', {}),
    'table of BEiT': ('beit_base_patch16_224', {}),
    'SAM': ('samvit_base_patch16', dict(global_attn_indexes=(1,), window_size=2)),
}


def build(kind: str) -> TimmViT:
    name, options = MODELS[kind]
    vit = TimmViT(name, init_cfg=None, **SMALL, **options).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vit


@pytest.mark.parametrize('kind', MODELS)
def test_weights_add_up_to_one_and_leave_the_model_as_it_was(kind):
    vit, images = build(kind), torch.randn(2, 3, 32, 32)
    before = vit(images)[0]
    fused = [block.attn.fused_attn for block in vit.vit.blocks]
    weights, prefix = timm_attention_from(vit, images, (1, 2))
    assert weights.shape == (2, 4, 4, 4)
    assert_close(weights.sum((2, 3)) + prefix, torch.ones(2, 4))
    assert (prefix.abs().sum() > 0) == (kind != 'SAM')
    assert [block.attn.fused_attn for block in vit.vit.blocks] == fused
    assert_close(vit(images)[0], before, atol=0, rtol=0)


def test_weights_are_those_of_queries_and_keys():
    vit, images = build('class token'), torch.randn(1, 3, 32, 32)
    block = vit.vit.blocks[0]
    tokens = block.norm1(vit.vit.norm_pre(vit.vit._pos_embed(vit.vit.patch_embed(images))))
    q, k, _ = block.attn.qkv(tokens).unflatten(2, (3, 4, 12)).permute(2, 0, 3, 1, 4)
    expected = (q @ k.mT / 12 ** 0.5).softmax(-1)[:, :, 1 + 2 * 4 + 3]
    weights, prefix = timm_attention_from(vit, images, (2, 3), block=0)
    assert_close(torch.cat([prefix[..., None], weights.flatten(2)], dim=2), expected)


def test_blocks_with_windows_are_refused_and_not_listed():
    vit = build('SAM')
    assert timm_attention_blocks(vit) == [1]
    with pytest.raises(ValueError, match='block 0 of samvit_base_patch16 attends within windows: choose one of'):
        timm_attention_from(vit, torch.randn(1, 3, 32, 32), (0, 0), block=0)


def test_attention_that_shows_no_weights_is_refused():
    vit = build('class token')
    del vit.vit.blocks[1].attn.attn_drop
    assert timm_attention_blocks(vit) == [0]
    with pytest.raises(ValueError, match='does not show its weights: use the features of this model'):
        timm_attention_from(vit, torch.randn(1, 3, 32, 32), (0, 0))
