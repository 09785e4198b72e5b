"""Teachers see the visible patches only, as they would see them in the whole image without attention to others."""
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.core.masking import Mask, mask_from_noise
from mae_backbone.core.vit import ViT
from mae_backbone.models.teacher import (
    attention_scores,
    block_of,
    build_encoder,
    encode_visible,
    has_class_token,
    load_weights,
)
from mae_backbone.models.timm_vit import TimmViT

SMALL = dict(embed_dim=32, depth=2, num_heads=2, patch_size=8, img_size=32)
TIMM = {'DINOv2': 'vit_small_patch14_reg4_dinov2', 'SigLIP': 'vit_base_patch16_siglip_224',
        'CLIP': 'vit_base_patch32_clip_224', 'DeiT III': 'deit3_small_patch16_224'}


def small(name: str) -> TimmViT:
    options = dict(SMALL)
    torch.manual_seed(0)
    encoder = build_encoder(dict(type='mae_backbone.TimmViT', name=name, **options), image_size=(32, 32))
    assert isinstance(encoder, TimmViT)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # registers and scales start at zero or near it
    return encoder.eval()


def all_visible(batch: int, patches: int) -> Mask:
    """A mask that shows every patch, in image order."""
    ids = torch.arange(patches).expand(batch, -1)
    return Mask(ids, ids[:, :0], ids, torch.zeros(batch, patches, dtype=torch.bool))


@pytest.mark.parametrize('name', TIMM.values(), ids=TIMM)
def test_with_all_patches_it_is_the_model_of_timm(name: str):
    encoder, images = small(name), torch.randn(2, 3, 32, 32)
    tokens = encode_visible(encoder, images, all_visible(2, 16), 2)
    last, = encoder.vit.forward_intermediates(images, indices=[1], norm=False, return_prefix_tokens=has_class_token(
        encoder), output_fmt='NLC', intermediates_only=True)
    wanted = torch.cat(last[::-1], 1) if has_class_token(encoder) else last
    assert_close(tokens, wanted, atol=1e-5, rtol=0)
    assert has_class_token(encoder) == ('siglip' not in name)


@pytest.mark.parametrize('name', TIMM.values(), ids=TIMM)
def test_hidden_pixels_do_not_reach_a_teacher(name: str):
    encoder, images = small(name), torch.randn(2, 3, 32, 32)
    mask = mask_from_noise(torch.rand(2, 16), 0.75)
    hidden = mask.hidden.reshape(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = torch.where(hidden, torch.randn(2, 3, 32, 32), images)
    assert_close(encode_visible(encoder, changed, mask, 2), encode_visible(encoder, images, mask, 2))
    assert not torch.equal(encode_visible(encoder, images + 1, mask, 2), encode_visible(encoder, images, mask, 2))


def test_a_vit_is_the_encoder_of_a_mae():
    vit = ViT(dict(width=32, depth=3, heads=2), image_size=32, patch_size=8)
    images, mask, states = torch.randn(2, 3, 32, 32), mask_from_noise(torch.rand(2, 16), 0.75), []
    patches = vit.embed(images)
    latent = vit.encode(mask.take_visible(patches), states=states)
    assert len(states) == 4
    for blocks in range(4):
        assert_close(encode_visible(vit, images, mask, blocks), states[blocks], atol=1e-5, rtol=0)
    assert_close(vit.norm(states[3]), latent)


def _timm_attention(encoder: TimmViT, tokens: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v and the projection, from the scores that are tested."""
    attn = block_of(encoder, 0).attn
    v = attn.qkv(block_of(encoder, 0).norm1(tokens)).unflatten(2, (3, attn.num_heads, -1))[:, :, 2].transpose(1, 2)
    mixed = attention_scores(block_of(encoder, 0), tokens).softmax(-1) @ v
    return attn.proj(mixed.transpose(1, 2).flatten(2))


def test_scores_are_those_of_the_attention():
    encoder, tokens = small(TIMM['DINOv2']), torch.randn(2, 7, 32)
    block = block_of(encoder, 0)
    assert_close(_timm_attention(encoder, tokens), block.attn(block.norm1(tokens)), atol=1e-4, rtol=1e-4)
    vit = ViT(dict(width=32, depth=1, heads=4), image_size=32, patch_size=8)
    attn = vit.blocks[0].attn
    q, k, v = attn.qkv(vit.blocks[0].norm1(tokens)).unflatten(2, (3, 4, 8)).permute(2, 0, 3, 1, 4)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert_close(attention_scores(vit.blocks[0], tokens).softmax(-1) @ v, wanted, atol=1e-5, rtol=0)


def test_weights_are_loaded_frozen_and_in_evaluation_mode(tmp_path: Path):
    vit = ViT(dict(width=32, depth=1, heads=2), image_size=32, patch_size=8)
    timm = VisionTransformer(num_classes=0, **SMALL)
    for encoder, source in (
            (build_encoder(dict(arch=dict(width=32, depth=1, heads=2), patch_size=8), image_size=(32, 32)), vit),
            (build_encoder(dict(type='mae_backbone.TimmViT', name='vit_tiny_patch16_224', **SMALL),
                           image_size=(32, 32)), timm)):
        torch.save(source.state_dict(), tmp_path / 'teacher.pth')
        load_weights(encoder, tmp_path / 'teacher.pth')
        loaded = encoder if isinstance(encoder, ViT) else encoder.vit
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.state_dict().items())
        assert not any(p.requires_grad for p in encoder.parameters())
        assert not any(module.training for module in encoder.modules())


def test_models_that_need_all_patches_are_refused():
    for name in ('eva02_tiny_patch14_224', 'beit_base_patch16_224'):
        with torch.device('meta'), pytest.raises(ValueError, match='cannot see only the visible patches'):
            build_encoder(dict(type='mae_backbone.TimmViT', name=name), image_size=(32, 32))
    with pytest.raises(ValueError, match="type='ResNet', expected"):
        build_encoder(dict(type='ResNet'), image_size=(32, 32))
