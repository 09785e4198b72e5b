"""Files that timm's models are loaded from: original layouts, folders, other sizes, files that do not fit."""
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.timm_files import folder_config, load_timm, weights_file

TINY = dict(embed_dim=32, depth=2, num_heads=2, num_classes=0)


def model(name: str = 'vit_tiny_patch16_224', **options: object) -> nn.Module:
    vit = timm.create_model(name, **TINY | dict(img_size=64) | options)
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.5)
    return vit


def save(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, path)
    return path


def renamed(weights: dict[str, Tensor], prefix: str, **names: str) -> dict[str, Tensor]:
    result = {}
    for name, value in weights.items():
        for old, new in names.items():
            name = name.replace(old.replace('__', '.'), new)
        result[prefix + name] = value
    return result


def assert_equal_weights(one: nn.Module, other: nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.vit.', 'encoder.', 'visual.trunk.'])
def test_prefixes_are_removed(tmp_path: Path, prefix: str):
    source, target = model(), model()
    load_timm(target, save(tmp_path / 'a.pth', renamed(source.state_dict(), prefix)))
    assert_equal_weights(target, source)


def test_original_dinov2_file(tmp_path: Path):
    source = model('vit_small_patch14_reg4_dinov2', img_size=56)
    weights = renamed(source.state_dict(), '', reg_token='register_tokens')
    # The original has a position for the class token, which timm adds to the token itself.
    weights['pos_embed'] = torch.cat([torch.ones(1, 1, 32), source.pos_embed.data], dim=1)
    weights['cls_token'] = source.cls_token.data - 1
    weights['mask_token'] = torch.zeros(1, 32)
    target = model('vit_small_patch14_reg4_dinov2', img_size=56)
    load_timm(target, save(tmp_path / 'dinov2.pth', weights))
    for name, value in source.state_dict().items():
        assert_close(target.state_dict()[name], value, atol=1e-6, rtol=0)


def test_original_deit3_file(tmp_path: Path):
    source, target = model('deit3_small_patch16_224'), model('deit3_small_patch16_224')
    weights = renamed(source.state_dict(), '', ls1__gamma='gamma_1', ls2__gamma='gamma_2')
    load_timm(target, save(tmp_path / 'deit3.pth', {'model': weights}))
    assert_equal_weights(target, source)


def test_original_dinov3_file(tmp_path: Path):
    source = model('vit_small_patch16_dinov3')
    weights = renamed(source.state_dict(), '', gamma_1='ls1.gamma', gamma_2='ls2.gamma', reg_token='storage_tokens')
    weights['mask_token'] = torch.zeros(1, 32)
    target = model('vit_small_patch16_dinov3')
    load_timm(target, save(tmp_path / 'dinov3.pth', weights))
    assert_equal_weights(target, source)


def test_original_segment_anything_file(tmp_path: Path):
    source, target = model('samvit_base_patch16'), model('samvit_base_patch16')
    weights = renamed(source.state_dict(), 'image_encoder.', mlp__fc='mlp.lin')
    weights['mask_decoder.iou_token.weight'] = torch.zeros(1, 256)
    load_timm(target, save(tmp_path / 'sam_vit_b.pth', weights))
    assert_equal_weights(target, source)


def test_original_beit_file(tmp_path: Path):
    source, target = model('beitv2_base_patch16_224'), model('beitv2_base_patch16_224')
    weights = dict(source.state_dict())
    weights['blocks.0.attn.relative_position_index'] = torch.zeros(17, 17, dtype=torch.long)
    load_timm(target, save(tmp_path / 'beit.pth', {'model': weights}))
    assert_equal_weights(target, source)


def test_whole_mae_loads_its_encoder(tmp_path: Path):
    source, target = model(), model()
    weights = dict(source.state_dict(), mask_token=torch.zeros(1, 1, 16), decoder_pos_embed=torch.zeros(1, 17, 16))
    weights['decoder_embed.weight'] = torch.zeros(16, 32)
    load_timm(target, save(tmp_path / 'mae.pth', {'model': weights}))
    assert_equal_weights(target, source)


def test_head_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source, target = model(num_classes=7), model()
    with caplog.at_level('INFO', 'mae_backbone'):
        load_timm(target, save(tmp_path / 'a.pth', source.state_dict()))
    assert 'left out: head.bias, head.weight' in caplog.text
    assert torch.equal(target.norm.weight, source.norm.weight)


def test_norm_goes_where_the_model_has_it(tmp_path: Path):
    mean, token = model(global_pool='avg'), model()
    load_timm(mean, save(tmp_path / 'token.pth', token.state_dict()))
    assert torch.equal(mean.fc_norm.weight, token.norm.weight)
    other = model()
    load_timm(other, save(tmp_path / 'mean.pth', mean.state_dict()))
    assert torch.equal(other.norm.bias, mean.fc_norm.bias)


def test_positions_and_patches_are_resized_as_timm_does(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source, target = model(patch_size=14, img_size=56), model(patch_size=16, img_size=96)
    with caplog.at_level('INFO', 'mae_backbone'):
        load_timm(target, save(tmp_path / 'a.pth', source.state_dict()))
    assert_close(target.pos_embed, resample_abs_pos_embed(source.pos_embed, [6, 6], num_prefix_tokens=1))
    assert 'resized: patch_embed.proj.weight, pos_embed' in caplog.text


def test_positions_of_as_many_patches_in_another_grid_are_interpolated(tmp_path: Path):
    """16 positions are stored for 4x4 or 2x8 patches."""
    source, target = model(img_size=64), model(img_size=(32, 128))
    load_timm(target, save(tmp_path / 'square.pth', source.state_dict()))
    expected = resample_abs_pos_embed(source.pos_embed, [2, 8], [4, 4])
    assert_close(target.pos_embed, expected)


@pytest.mark.parametrize('size', [(384, 384), (128, 512)])
@pytest.mark.parametrize('stored_for', [(128, 512), (96, 512)])
def test_positions_of_a_run_keep_the_grid_that_its_config_states(tmp_path: Path, stored_for: tuple, size: tuple):
    """The name of the model states 256x256 pixels, that are 16x16 patches, and the run had as many in another grid."""
    name = 'vit_base_patch16_siglip_256'
    source, target = model(name, img_size=stored_for), model(name, img_size=size)
    config = f"model = dict(backbone=dict(type='mae_backbone.TimmViT', name='{name}', image_size={stored_for}))"
    torch.save(dict(state_dict={f'backbone.vit.{name}': value for name, value in source.state_dict().items()},
                    meta=dict(cfg=config)), tmp_path / 'epoch_1.pth')
    load_timm(target, tmp_path / 'epoch_1.pth')
    expected = resample_abs_pos_embed(source.pos_embed, [side // 16 for side in size],
                                      [side // 16 for side in stored_for], num_prefix_tokens=0)
    assert_close(target.pos_embed, expected)


def test_patches_of_sam_are_resized_and_its_positions_kept(tmp_path: Path):
    source, target = model('samvit_base_patch16'), model('samvit_base_patch16', patch_size=8, img_size=32)
    load_timm(target, save(tmp_path / 'a.pth', source.state_dict()))
    assert_close(target.patch_embed.proj.weight,
                 resample_patch_embed(source.patch_embed.proj.weight.detach(), [8, 8]))
    assert torch.equal(target.pos_embed, source.pos_embed)


@pytest.mark.parametrize('channels', [1, 2, 4, 6])
def test_channels_are_adapted(tmp_path: Path, channels: int):
    source, target = model(), model(in_chans=channels)
    load_timm(target, save(tmp_path / 'a.pth', source.state_dict()))
    old, new = source.patch_embed.proj.weight, target.patch_embed.proj.weight
    wanted = (old.sum(dim=1, keepdim=True) if channels == 1 else
              torch.stack([old[:, i % 3] for i in range(channels)], dim=1) * 3 / channels)
    assert_close(new, wanted)


@pytest.mark.parametrize(('options', 'says'), [
    (dict(depth=3), 'width 32 with 3 blocks, this model of timm has width 32 and 2 blocks'),
    (dict(depth=1), 'width 32 with 1 blocks'),
    (dict(embed_dim=64), 'width 64 with 2 blocks, this model of timm has width 32'),
    (dict(mlp_ratio=2.0), r'of another shape: blocks\.0\.mlp'),
    (dict(reg_tokens=4), 'in the file, not in the model: reg_token'),
])
def test_file_of_another_model_is_refused_and_nothing_is_changed(tmp_path: Path, options: dict, says: str):
    target = model()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        load_timm(target, save(tmp_path / 'a.pth', model(**options).state_dict()))
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_weights_that_are_not_finite_are_refused(tmp_path: Path):
    weights = model().state_dict()
    weights['norm.bias'][0] = float('nan')
    with pytest.raises(CheckpointError, match=r'NaN or infinite values in 1 of .* \(norm.bias\)'):
        load_timm(model(), save(tmp_path / 'a.pth', weights))


def test_other_content_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match='in the model, not in the file'):
        load_timm(model(), save(tmp_path / 'a.pth', {'conv1.weight': torch.zeros(8, 3, 7, 7)}))
    with pytest.raises(CheckpointError, match='cannot be converted for VisionTransformer of timm'):
        load_timm(model(), save(tmp_path / 'b.pth', {'patch_embed.proj.weight': torch.zeros(5)}))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        load_timm(model(), tmp_path / 'c.pth')


def test_folder_without_weights_or_config(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match='is a folder, and has neither'):
        weights_file(tmp_path)
    for text in ('{', '[]', '{"model_type": "vit_mae"}', '[' * 100_000):
        (tmp_path / 'config.json').write_text(text)
        with pytest.raises(CheckpointError, match=r'config\.json'):
            folder_config(tmp_path)


def test_a_key_that_the_file_does_not_have_is_refused(tmp_path: Path):
    file = save(tmp_path / 'a.pth', {'state_dict': model().state_dict(), 'state_dict_ema': model().state_dict()})
    with pytest.raises(CheckpointError, match=r"--weights-key tutor could mean: .* 'state_dict_ema', 'state_dict'"):
        load_timm(model(), file, key='tutor')


def test_averaged_weights_are_taken_unless_others_are_asked_for(tmp_path: Path):
    plain, averaged, target = model(), model(), model()
    file = save(tmp_path / 'last.pth.tar', {'state_dict': plain.state_dict(), 'state_dict_ema': averaged.state_dict()})
    load_timm(target, file)
    assert_equal_weights(target, averaged)
    load_timm(target, file, key='state_dict')
    assert_equal_weights(target, plain)
