"""Training files of mmpretrain, DINO, MoCo v3, I-JEPA and mmdet's ViTDet, with generated names."""
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from helpers.interop import assert_agree, images, randomize, tokens_of
from helpers.layout_names import mmpretrain_block, mmpretrain_decoder, mmpretrain_encoder, mmpretrain_positions, parts
from helpers.small_vit import DEPTH, HEADS, PATCH, SIZE, WIDTH, backbone, vit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import open_source, read_facts
from mae_backbone.core.mae import MAE
from mae_backbone.core.patches import sincos_positions


def model(**options) -> VisionTransformer:
    return randomize(VisionTransformer(**dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
                                              num_heads=HEADS, num_classes=0) | options))


def wrapped(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


# ---- mmpretrain

MMPRETRAIN_CONFIG = '''
model = dict(type='MAE', backbone=dict(type='MAEViT', arch=dict(embed_dims=64, num_layers=2, num_heads=4)),
             neck=dict(type='MAEPretrainDecoder', decoder_num_heads=2), head=dict(norm_pix=True),
             data_preprocessor=dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0]))
'''


def test_mmpretrain_with_its_exchanged_positions(tmp_path: Path):
    theirs = model()
    theirs.pos_embed.data = mmpretrain_positions(SIZE // PATCH, WIDTH)
    decoder = {name.removeprefix('decoder.'): torch.randn_like(value) for name, value in MAE(
        vit(), decoder_width=32, decoder_depth=2, decoder_heads=2).state_dict().items() if name.startswith('decoder.')}
    path = tmp_path / 'epoch_300.pth'
    torch.save({'meta': dict(cfg=MMPRETRAIN_CONFIG, epoch=300), 'message_hub': {},
                'state_dict': mmpretrain_encoder(theirs.state_dict(), DEPTH) | mmpretrain_decoder(decoder, 2)}, path)
    ours = vit()
    assert_agree('mmpretrain MAE', tokens_of(path, ours), theirs.forward_features(images()).detach())
    grid = sincos_positions((4, 4), WIDTH).unflatten(1, (4, 4))
    assert torch.allclose(ours.pos_embed[:, 1:], grid.transpose(1, 2).flatten(1, 2), atol=1e-6)  # kept as stored
    found = open_source(path).decoder()
    assert found.keys() == decoder.keys()
    assert all(torch.equal(found[name], value) for name, value in decoder.items())
    facts = read_facts(path)
    assert (facts.heads, facts.decoder_heads, facts.norm_pix, facts.mean) == (4, 2, True, (1.0, 2.0, 3.0))


# ---- two encoders

def test_dino(tmp_path: Path):
    student, teacher = model(), model()
    head = {'head.mlp.0.weight': torch.ones(8, WIDTH), 'head.last_layer.weight_g': torch.ones(8, 1),
            'head.last_layer.weight_v': torch.ones(8, 8)}
    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(student=wrapped(wrapped(student.state_dict(), 'backbone.') | head, 'module.'),
                    teacher=wrapped(teacher.state_dict(), 'backbone.') | head, epoch=100,
                    args=Namespace(arch='vit_other', patch_size=8), optimizer={}, dino_loss={'center': torch.ones(8)}),
               path)
    report = load_encoder(vit(), path, heads=HEADS)
    assert report.choice == "'teacher' taken, not 'student' (--weights-key chooses)"
    assert report.layout == 'DINO v1'
    assert_agree('DINO v1, teacher', tokens_of(path, heads=HEADS), teacher.forward_features(images()).detach())
    assert_agree('DINO v1, student', tokens_of(path, heads=HEADS, key='student'),
                 student.forward_features(images()).detach())


def test_moco(tmp_path: Path):
    base, momentum = model(), model()
    path = tmp_path / 'checkpoint_0299.pth.tar'
    weights = wrapped(base.state_dict(), 'module.base_encoder.') | wrapped(momentum.state_dict(),
                                                                           'module.momentum_encoder.')
    weights |= {'module.base_encoder.head.0.weight': torch.ones(8, WIDTH),
                'module.predictor.0.weight': torch.ones(8, 8)}
    torch.save(dict(state_dict=weights, arch='vit_small', epoch=300, optimizer={}, scaler={}), path)
    assert_agree('MoCo v3, base encoder', tokens_of(path, heads=HEADS), base.forward_features(images()).detach())
    assert_agree('MoCo v3, momentum encoder', tokens_of(path, heads=HEADS, key='teacher'),
                 momentum.forward_features(images()).detach())
    report = load_encoder(vit(), path, heads=HEADS)
    assert report.choice == "'base_encoder.' taken, not 'momentum_encoder.' (--weights-key chooses)"


def test_small_model_of_moco_has_12_heads_where_all_others_have_6(tmp_path: Path):
    small = model(embed_dim=384, depth=1, num_heads=12)
    path = tmp_path / 'checkpoint_0299.pth.tar'
    torch.save(dict(state_dict=wrapped(small.state_dict(), 'module.base_encoder.'), arch='vit_small'), path)
    arch = dict(width=384, depth=1, heads=12)
    assert_agree('MoCo v3, small', tokens_of(path, vit(arch=arch)), small.forward_features(images()).detach())
    with pytest.raises(CheckpointError, match=r"12 heads of attention \(source: the architecture 'vit_small'"):
        load_encoder(vit(arch=arch | dict(heads=6)), path)


def test_ijepa(tmp_path: Path):
    encoder, target = (model(class_token=False, global_pool='avg', fc_norm=False) for _ in range(2))
    path = tmp_path / 'jepa-latest.pth.tar'
    torch.save(dict(encoder=wrapped(encoder.state_dict(), 'module.'), target_encoder=wrapped(
        target.state_dict(), 'module.'), predictor={'module.predictor_norm.bias': torch.ones(8)}, opt={}), path)
    report = load_encoder(vit(class_token=False), path, heads=HEADS)
    assert report.layout == 'I-JEPA'
    assert report.choice.startswith("'target_encoder' taken, not 'encoder'")
    assert_agree('I-JEPA, target encoder', tokens_of(path, vit(class_token=False), heads=HEADS),
                 target.forward_features(images()).detach())
    assert_agree('I-JEPA, encoder', tokens_of(path, vit(class_token=False), heads=HEADS, key='student'),
                 encoder.forward_features(images()).detach())


# ---- ViTDet of mmdet's projects

@pytest.mark.parametrize('names', ['detectron2', 'mmpretrain'])
def test_vitdet_of_mmdet(tmp_path: Path, names: str):
    """Both versions of `projects/ViTDet`: with the names of detectron2, and on the ViT of mmpretrain."""
    options = dict(window_size=2, global_blocks=[1], relative_positions=True, pretrain_image_size=SIZE)
    theirs = randomize(backbone(**options))
    weights = theirs.state_dict()
    if names == 'mmpretrain':
        tables = {name.replace('blocks', 'backbone.layers'): value for name, value in weights.items()
                  if 'rel_pos' in name}
        plain = {name: value for name, value in weights.items() if 'rel_pos' not in name}
        weights = {'backbone.cls_token': torch.zeros(1, 1, WIDTH), 'backbone.pos_embed': plain['pos_embed'],
                   'backbone.res_modify_block_1.0.bias': torch.zeros(WIDTH // 2),
                   'backbone.patch_embed.projection.weight': plain['patch_embed.proj.weight'],
                   'backbone.patch_embed.projection.bias': plain['patch_embed.proj.bias'], **tables}
        for i in range(DEPTH):
            weights |= mmpretrain_block(parts(plain, f'blocks.{i}.'), f'backbone.layers.{i}')
    else:
        weights = wrapped(weights, 'backbone.')
    path = tmp_path / 'detector.pth'
    torch.save(dict(state_dict=weights | {'neck.conv.weight': torch.ones(3), 'rpn_head.rpn_cls.bias': torch.ones(3)},
                    meta={}, message_hub={}), path)
    ours = backbone(**options)
    report = load_encoder(ours, path, heads=HEADS)
    assert report.layout.startswith('mmdet ViTDet')
    assert any('zeros after the projection' in note for note in report.notes) == (names == 'mmpretrain')
    with torch.no_grad():
        assert_agree(f'mmdet ViTDet, names of {names}', ours(images())[0], theirs(images())[0])


# ---- wrappers

@pytest.mark.parametrize('wrap', [
    lambda name: 'module.' + name, lambda name: '_orig_mod.' + name, lambda name: 'module._orig_mod.' + name,
    lambda name: 'model.' + name, lambda name: name.replace('blocks.0.', 'blocks.0._orig_mod.'),
    lambda name: name.replace('blocks.1.', 'blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module.')],
    ids=['DataParallel', 'compile', 'both', 'Lightning', 'compiled block', 'FSDP'])
def test_wrappers_of_training_are_removed(tmp_path: Path, wrap):
    theirs = model()
    torch.save({'state_dict': {wrap(name): value for name, value in theirs.state_dict().items()}}, tmp_path / 'a.pth')
    assert_agree('wrapped', tokens_of(tmp_path / 'a.pth', heads=HEADS), theirs.forward_features(images()).detach())


def test_average_of_mmengine_stands_under_state_dict(tmp_path: Path):
    """MMEngine's EMAHook swaps both when it saves (`_swap_ema_state_dict`)."""
    averaged, trained = vit(), vit()
    torch.save(dict(state_dict=wrapped(averaged.state_dict(), 'backbone.'), meta={}, message_hub={},
                    ema_state_dict=wrapped(trained.state_dict(), 'module.backbone.')), tmp_path / 'epoch_1.pth')
    ours = vit()
    report = load_encoder(ours, tmp_path / 'epoch_1.pth', heads=HEADS)
    assert report.choice.startswith("'state_dict' taken, not 'ema_state_dict'")
    assert torch.equal(ours.cls_token, averaged.cls_token)
