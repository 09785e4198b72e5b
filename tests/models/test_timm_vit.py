"""Vision Transformers of timm as backbones: equal to timm at its size and at others, frozen stages, checkpointing."""
import json
import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from safetensors.torch import save_file
from timm.layers import resize_rel_pos_bias_table_simple
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.testing import assert_close

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.engine.layer_decay import parameter_table
from mae_backbone.models.timm_vit import TimmViT, pixel_warning

TINY = dict(embed_dim=32, depth=3, num_heads=2)
# Family -> name in timm, and options that make it small.
FAMILIES = {
    'dinov2': ('vit_small_patch14_reg4_dinov2', dict(TINY, img_size=56)),
    'dinov3': ('vit_small_patch16_dinov3', dict(TINY, img_size=64)),
    'deit3': ('deit3_small_patch16_224', dict(TINY, img_size=64)),
    'clip': ('vit_base_patch16_clip_224.openai', dict(TINY, img_size=64)),
    'siglip': ('vit_base_patch16_siglip_224', dict(TINY, img_size=64)),
    'eva02': ('eva02_tiny_patch14_224', dict(TINY, img_size=56)),
    'beitv2': ('beitv2_base_patch16_224', dict(TINY, img_size=64)),
    'sam': ('samvit_base_patch16', dict(TINY, img_size=64, window_size=3, global_attn_indexes=(1,))),
    'mae': ('vit_base_patch16_224.mae', dict(TINY, img_size=64)),
    'patch8': ('vit_small_patch8_224.dino', dict(TINY, img_size=32)),
}
DYNAMIC = [family for family in FAMILIES if family not in ('beitv2', 'sam')]


def pair(family: str, **options: object) -> tuple[TimmViT, nn.Module]:
    """A backbone and the same model built by timm, with the same random weights, none of them at its initial value."""
    name, tiny = FAMILIES[family]
    dynamic = dict(dynamic_img_size=True) if family in DYNAMIC else {}
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=0, **dynamic, **tiny)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.2)
    backbone = TimmViT(name, **tiny, **options)
    backbone.vit.load_state_dict({key: value for key, value in reference.state_dict().items()
                                  if key in backbone.vit.state_dict()})
    return backbone.eval(), reference.eval()


def images(backbone: TimmViT, h: int, w: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, h * backbone.patch_size, w * backbone.patch_size)


@pytest.mark.parametrize('family', FAMILIES)
@torch.no_grad()
def test_maps_tokens_and_pooled_features_equal_timm_at_its_size(family: str):
    backbone, reference = pair(family, out_indices=(-1, 0, 2), pooling=True)
    x = images(backbone, 4, 4)
    final, wanted = reference.forward_intermediates(x, indices=[0, 2], norm=True)
    maps = backbone(x)
    assert [tuple(one.shape) for one in maps] == [(2, backbone.out_channels, 4, 4)] * 3
    for one, other in zip(maps, (wanted[1], wanted[0], wanted[1]), strict=True):
        assert_close(one, other, atol=0, rtol=0)
    if final.ndim == 4:   # SAM
        assert_close(maps[0], reference.forward_features(x), atol=0, rtol=0)
    else:
        prefix, features = reference.num_prefix_tokens, reference.forward_features(x)
        assert_close(maps[0].flatten(2).transpose(1, 2), features[:, prefix:], atol=0, rtol=0)
        tokens = backbone.tokens(x)
        assert tokens.shape[1] == 1 + 16
        assert_close(tokens[:, 1:], features[:, prefix:], atol=0, rtol=0)
        assert_close(tokens[:, 0], features[:, 0] if backbone.cls_token is not None else reference(x), atol=0, rtol=0)
    assert_close(backbone.pooled(x), reference(x), atol=0, rtol=0)


@pytest.mark.parametrize('family', [*DYNAMIC, 'sam'])
@torch.no_grad()
def test_maps_of_other_sizes_equal_timm(family: str):
    backbone, reference = pair(family)
    for h, w in ((6, 3), (1, 5)):
        x = images(backbone, h, w)
        wanted = reference.forward_intermediates(x, indices=[2], norm=True, intermediates_only=True)[0]
        assert backbone(x)[0].shape == (2, backbone.out_channels, h, w)
        assert_close(backbone(x)[0], wanted, atol=0, rtol=0)


@torch.no_grad()
def test_beit_of_other_sizes_equals_a_beit_of_that_size_with_tables_resized_bicubically():
    backbone, small = pair('beitv2')
    large = timm.create_model(FAMILIES['beitv2'][0], num_classes=0, **TINY, img_size=(96, 112)).eval()
    weights = small.state_dict()
    for name in [name for name in weights if name.endswith('relative_position_bias_table')]:
        weights[name] = resize_rel_pos_bias_table_simple(weights[name], (6, 7), large.state_dict()[name].shape)
    large.load_state_dict(weights)
    x = images(backbone, 6, 7)
    wanted = large.forward_intermediates(x, indices=[2], norm=True, intermediates_only=True)[0]
    assert_close(backbone(x)[0], wanted, atol=1e-5, rtol=0)
    x = images(backbone, 4, 4)    # and back at its own size, nothing is left of the other
    assert_close(backbone(x)[0], small.forward_intermediates(x, indices=[2], norm=True, intermediates_only=True)[0],
                 atol=0, rtol=0)


@pytest.mark.parametrize('family', FAMILIES)
def test_checkpointing_changes_no_gradient(family: str):
    plain, _ = pair(family, pooling=True)
    sparing, _ = pair(family, pooling=True, checkpointing=True)
    gradients = []
    for model in (plain, sparing):
        model.train()
        # Two sizes before one backward pass: the recomputation must use the size of each.
        sum(model(images(model, *size))[0].square().mean() for size in ((4, 4), (3, 5))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('final_norm', [True, False])
def test_every_parameter_gets_a_gradient(family: str, final_norm: bool):
    backbone, _ = pair(family, final_norm=final_norm)
    backbone(images(backbone, 4, 4))[0].square().mean().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []
    backbone, _ = pair(family, final_norm=final_norm)
    assert backbone.out_channels == backbone(images(backbone, 2, 2))[0].shape[1]


@pytest.mark.parametrize('family', FAMILIES)
def test_frozen_stages_get_no_gradient_and_stay_in_evaluation(family: str):
    name, tiny = FAMILIES[family]
    behind = ('vit.norm.', 'vit.neck.')
    for stages in (-1, 0, 1, 1.5, 3):
        backbone = TimmViT(name, **tiny, frozen_stages=stages, drop_path_rate=0.5).train()
        names = [key for key, _ in backbone.named_parameters()]
        whole = tuple(f'vit.blocks.{i}.' for i in range(int(stages)))
        frozen = {key for key in names if stages >= 0 and not key.startswith(('vit.blocks.', *behind))}
        frozen |= {key for key in names if whole and key.startswith(whole)}
        if stages == 1.5:
            frozen |= {key for key in names if key.startswith(('vit.blocks.1.norm1.', 'vit.blocks.1.attn.'))}
        if stages == 3:
            frozen = set(names)
        assert {key for key, p in backbone.named_parameters() if not p.requires_grad} == frozen
        assert [block.training for block in backbone.vit.blocks] == [i >= int(stages) for i in range(3)]
        assert backbone.vit.patch_embed.training is (stages < 0)
        assert not any(module.training for module in backbone.eval().modules())


def test_images_that_do_not_fit_are_refused():
    backbone = TimmViT('vit_small_patch14_reg4_dinov2', **FAMILIES['dinov2'][1])
    with pytest.raises(ValueError, match='image is 60x56, both sides must be multiples of patch_size=14'):
        backbone(torch.zeros(1, 3, 60, 56))
    with pytest.raises(ValueError, match=r'expected \(B, 3, H, W\): set in_chans'):
        backbone(torch.zeros(1, 1, 56, 56))
    relpos = TimmViT('vit_relpos_small_patch16_224', embed_dim=32, depth=2, num_heads=2, image_size=64)
    assert relpos(torch.zeros(1, 3, 64, 64))[0].shape == (1, 32, 4, 4)
    with pytest.raises(ValueError, match='takes one size only: set image_size'):
        relpos(torch.zeros(1, 3, 64, 80))


@pytest.mark.parametrize(('name', 'options', 'says'), [
    ('vit_base_patch14_dinov9', {}, 'neither a model of timm .* similar names: .*dinov2'),
    ('hf-hub:timm/vit_base_patch14_dinov2.lvd142m', {}, 'neither a model of timm'),
    ('resnet18', {}, 'is a ResNet of timm, expected a plain ViT'),
    ('vit_tiny_patch16_224', dict(depht=2), "timm cannot build vit_tiny_patch16_224 with {'depht': 2}"),
    ('vit_tiny_patch16_224', dict(depth=2, out_indices=[2]), r'out_indices=\(2,\), the 2 blocks'),
    ('vit_tiny_patch16_224', dict(depth=2, out_indices=[]), r'out_indices=\(\)'),
    ('vit_tiny_patch16_224', dict(depth=2, frozen_stages=3), 'frozen_stages=3, expected -1'),
    ('vit_tiny_patch16_224', dict(depth=2, init_cfg=dict(type='TruncNormal')), "checkpoint='timm'"),
])
def test_invalid_options_are_refused(name: str, options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        TimmViT(name, **options)


def test_folder_of_timm_is_built_and_loaded(tmp_path: Path):
    source = timm.create_model('vit_tiny_patch16_224', num_classes=0, **TINY, img_size=64, reg_tokens=2)
    save_file(source.state_dict(), tmp_path / 'model.safetensors')
    config = dict(architecture='vit_tiny_patch16_224', num_classes=0, num_features=32,
                  model_args=dict(TINY, img_size=64, reg_tokens=2),
                  pretrained_cfg=dict(mean=[.5, .5, .5], std=[.25, .25, .25], input_size=[3, 64, 64], num_classes=0,
                                      first_conv='patch_embed.proj', classifier='head'))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    backbone = MODELS.build(dict(type='mae_backbone.TimmViT', name=str(tmp_path)))
    backbone.init_weights()
    assert backbone.vit.num_prefix_tokens == 3
    assert backbone.mean == (127.5, 127.5, 127.5)
    assert backbone.std == (63.75, 63.75, 63.75)
    for name, value in source.state_dict().items():
        assert torch.equal(backbone.vit.state_dict()[name], value)
    fresh = TimmViT(str(tmp_path), init_cfg=None)   # random weights of the same architecture
    fresh.init_weights()
    assert not torch.equal(fresh.vit.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


def test_download_happens_only_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    asked = []
    create = timm.create_model

    def record(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        asked.append(pretrained)
        if pretrained:
            raise OSError('no connection')
        return create(name, **options)

    monkeypatch.setattr(timm, 'create_model', record)
    TimmViT('vit_tiny_patch16_224.augreg_in21k', **TINY).init_weights()
    assert asked == [False]
    backbone = TimmViT('vit_tiny_patch16_224.augreg_in21k', **TINY,
                       init_cfg=dict(type='Pretrained', checkpoint='timm'))
    with pytest.raises(CheckpointError, match=r'cannot be downloaded \(no connection\): check the connection'):
        backbone.init_weights()
    assert asked == [False, False, True]


def test_no_weight_decay_names_parameters_of_the_backbone():
    backbone = TimmViT('vit_small_patch14_reg4_dinov2', **FAMILIES['dinov2'][1])
    assert backbone.no_weight_decay() == {'vit.pos_embed', 'vit.cls_token', 'vit.reg_token'}
    beit = TimmViT('beitv2_base_patch16_224', **FAMILIES['beitv2'][1])
    assert 'vit.blocks.1.attn.relative_position_bias_table' in beit.no_weight_decay()


@pytest.mark.parametrize('family', FAMILIES)
def test_layer_decay_and_weight_decay_equal_timm(family: str):
    name, tiny = FAMILIES[family]
    backbone, reference = TimmViT(name, **tiny, pooling=True), timm.create_model(name, num_classes=2, **tiny)
    model = nn.Sequential(backbone, nn.Linear(32, 2))
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        constructor='mae_backbone.LayerDecayConstructor',
        paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0, no_decay_of_model=True)))
    found = parameter_table(model, optimizer)
    assert len(found) == len(list(model.parameters()))
    names = {id(parameter): name for name, parameter in reference.named_parameters()}
    for group in param_groups_layer_decay(reference, 0.05, reference.no_weight_decay(), layer_decay=0.65):
        for parameter in group['params']:
            key = names[id(parameter)]
            if not key.startswith('head.'):
                # timm counts the last norm to the last block; here it has the rate of the head, as in MAE's code.
                scale = 1.0 if key.startswith('norm.') else group['lr_scale']
                assert found[f'0.vit.{key}'] == pytest.approx((scale, group['weight_decay'])), key
    assert found['1.weight'] == (1.0, 0.05)


def test_custom_keys_come_before_the_no_decay_set_of_the_model():
    backbone = TimmViT('vit_small_patch14_reg4_dinov2', **FAMILIES['dinov2'][1])
    paramwise = dict(no_decay_of_model=True, custom_keys={'reg_token': dict(decay_mult=1.0)})
    cfg = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
               constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=paramwise)
    found = parameter_table(backbone, build_optim_wrapper(backbone, cfg))
    assert [found[f'vit.{name}'][1] for name in ('reg_token', 'cls_token', 'pos_embed')] == [0.05, 0.0, 0.0]
    with pytest.raises(ValueError, match='no_decay_of_model=True, but no module of the model states'):
        build_optim_wrapper(nn.Linear(2, 2), cfg)


@pytest.mark.parametrize(('preprocessor', 'says'), [
    (dict(mean=[122.7709, 116.746, 104.0937], std=[68.5005, 66.6322, 70.3232]), None),
    (dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]), r'has mean=\[123.68, 116.28, 103.53\]'),
    (dict(), 'has no mean, no std'),
])
def test_warning_about_pixels(preprocessor: dict, says: str | None):
    model = nn.Module()
    model.data_preprocessor = MODELS.build(dict(type='ImgDataPreprocessor', **preprocessor))
    options = FAMILIES['clip'][1] | dict(init_cfg=dict(type='Pretrained', checkpoint='clip.pth'))
    model.backbone = TimmViT('vit_base_patch16_clip_224.openai', **options)
    warning = pixel_warning(model)
    assert (warning is None) is (says is None)
    if says:
        assert re.search(says, warning)
        assert 'trained with mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323]: set these' in warning
    model.backbone.init_cfg = None   # random weights fit any pixels
    assert pixel_warning(model) is None
