"""Files and folders of timm give the features of timm."""
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from helpers.interop import assert_agree, images, randomize, tokens_of
from helpers.small_vit import ARCH, DEPTH, HEADS, PATCH, SIZE, WIDTH, backbone, vit
from timm.models import _hub
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.facts import HALF
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import read_facts
from mae_backbone.models.backbone import ViTBackbone

SIZES = dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS)


def model(**options) -> VisionTransformer:
    return randomize(VisionTransformer(**SIZES | dict(num_classes=7) | options))


def test_state_dict(tmp_path: Path):
    theirs = model()
    torch.save(theirs.state_dict(), tmp_path / 'vit.pth')
    assert_agree('timm ViT, `.pth`', tokens_of(tmp_path / 'vit.pth', heads=HEADS),
                 theirs.forward_features(images()).detach())


def test_public_mae(tmp_path: Path):
    """facebookresearch/mae names its parts as timm does. The file has a decoder, as those of its training have."""
    theirs = model(num_classes=0)
    decoder = {'mask_token': torch.ones(1, 1, 8), 'decoder_embed.weight': torch.ones(8, WIDTH),
               'decoder_blocks.0.norm1.weight': torch.ones(8)}
    torch.save({'model': theirs.state_dict() | decoder, 'epoch': 799, 'args': Namespace(
        model='mae_vit_base_patch16', norm_pix_loss=True)}, tmp_path / 'mae.pth')
    assert read_facts(tmp_path / 'mae.pth').norm_pix
    assert_agree('facebookresearch/mae', tokens_of(tmp_path / 'mae.pth', heads=HEADS),
                 theirs.forward_features(images()).detach())


@pytest.mark.parametrize('average', ['state_dict_ema', 'model_ema'])
def test_training_file_has_an_average_which_is_taken_and_said(tmp_path: Path, average: str):
    """timm's train.py writes the first, the code of DeiT and ConvNeXt the second."""
    trained, averaged = model(), model()
    path = tmp_path / 'last.pth.tar'
    key = 'state_dict' if average == 'state_dict_ema' else 'model'
    torch.save({'epoch': 3, 'arch': 'vit_tiny_other', key: {f'module.{name}': value for name, value
                                                           in trained.state_dict().items()},
                average: averaged.state_dict(), 'optimizer': dict(state={}, param_groups=[]),
                'args': Namespace(model='x', mean=[0.5] * 3, std=[0.5] * 3)}, path)
    report = load_encoder(vit(), path, heads=HEADS)
    assert report.choice == f"'{average}' taken, not '{key}' (--weights-key chooses)"
    assert (read_facts(path).mean, read_facts(path).std) == HALF
    assert_agree(f'timm training file, `{average}`', tokens_of(path, heads=HEADS),
                 averaged.forward_features(images()).detach())
    for chosen in (key, 'student'):
        assert_agree(f'timm training file, --weights-key {chosen}', tokens_of(path, heads=HEADS, key=chosen),
                     trained.forward_features(images()).detach())
    with pytest.raises(CheckpointError, match='no weights that --weights-key other could mean'):
        tokens_of(path, heads=HEADS, key='other')


@pytest.mark.parametrize('safe', [True, False])
def test_hub_folder(tmp_path: Path, safe: bool):
    theirs = model()
    theirs.pretrained_cfg = dict(architecture='vit_tiny_patch16_224', mean=(0.5,) * 3, std=(0.5,) * 3, tag='test',
                                 input_size=(3, SIZE, SIZE))
    _hub.save_for_hf(theirs, tmp_path, model_args=dict(num_heads=HEADS), safe_serialization=safe)
    report = load_encoder(vit(), tmp_path)
    assert 'heads: 4 (config.json)' in report.notes
    assert any('augreg, CLIP: half' in note for note in report.notes)
    assert_agree(f'timm hub folder ({"safetensors" if safe else "bin"})', tokens_of(tmp_path),
                 theirs.forward_features(images()).detach())


def test_layer_scale_is_folded(tmp_path: Path):
    theirs = model(init_values=0.5)
    torch.save(theirs.state_dict(), tmp_path / 'vit.pth')
    assert_agree('timm ViT with LayerScale', tokens_of(tmp_path / 'vit.pth', heads=HEADS),
                 theirs.forward_features(images()).detach())


def test_beit(tmp_path: Path):
    theirs = randomize(Beit(**SIZES, num_classes=0, init_values=0.5, use_rel_pos_bias=True, global_pool='token'))
    torch.save(theirs.state_dict(), tmp_path / 'beit.pth')
    ours = ViTBackbone(ARCH, image_size=SIZE, patch_size=PATCH, class_token=True, final_norm=True,
                       relative_bias='block').eval()
    load_encoder(ours, tmp_path / 'beit.pth')
    with torch.no_grad():
        found = ours(images())[0].flatten(2).transpose(1, 2)
    assert_agree('timm BEiT', found, theirs.forward_features(images()).detach()[:, 1:])
    with pytest.raises(CheckpointError, match="have relative positions, the model has none: set relative_bias='block'"):
        load_encoder(vit(), tmp_path / 'beit.pth', heads=HEADS)


def sam() -> VisionTransformerSAM:
    """Image encoder with a global and a windowed block, without the neck."""
    model = VisionTransformerSAM(**SIZES | dict(img_size=64), window_size=3, global_attn_indexes=(1,), num_classes=0,
                                 use_rel_pos=True, neck_chans=0, norm_layer=partial(nn.LayerNorm, eps=1e-6))
    model.neck = nn.Identity()
    return randomize(model)


@pytest.mark.parametrize('layout', ['timm', 'segment-anything'])
def test_sam(tmp_path: Path, layout: str):
    theirs = sam()
    weights = theirs.state_dict() | {'neck.0.weight': torch.zeros(8, WIDTH, 1, 1), 'neck.3.bias': torch.zeros(8)}
    if layout == 'segment-anything':  # its names, and the parts that stand next to the encoder in `sam_vit_b_*.pth`
        weights = {'image_encoder.' + name.replace('.fc', '.lin'): value for name, value in weights.items()}
        weights |= {'prompt_encoder.no_mask_embed.weight': torch.zeros(1, 8),
                    'mask_decoder.iou_token.weight': torch.zeros(1, 8)}
    torch.save(weights, tmp_path / 'sam.pth')
    ours = backbone(image_size=64, window_size=3, global_blocks=[1], relative_positions=True)
    report = load_encoder(ours, tmp_path / 'sam.pth')
    assert report.layout == ('segment-anything' if layout == 'segment-anything' else 'timm SAM')
    assert any('heads: 4 (the tables of relative positions)' in note for note in report.notes)
    with torch.no_grad():
        found = ours(images(64))[0]
    assert_agree(f'SAM of {layout}', found, theirs.forward_features(images(64)).detach())


def test_heads_that_no_one_states_are_asked_for(tmp_path: Path):
    """Width 192 has 3 heads in every named architecture: 6 of a file would go unnoticed."""
    torch.save(timm.create_model('vit_tiny_patch16_224', num_heads=6, depth=1).state_dict(), tmp_path / 'vit.pth')
    with pytest.raises(CheckpointError, match=r'usually have 3, this model has 6.*--weights-heads 6'):
        load_encoder(vit(arch=dict(width=192, depth=1, heads=6), image_size=224, patch_size=16), tmp_path / 'vit.pth')
    load_encoder(vit(arch=dict(width=192, depth=1, heads=6), image_size=224, patch_size=16), tmp_path / 'vit.pth',
                 heads=6)
    report = load_encoder(vit(arch=dict(width=192, depth=1, heads=3), image_size=224, patch_size=16),
                          tmp_path / 'vit.pth')
    assert any('3 of the model; the file does not state them' in note for note in report.notes)
    assert any('pixels: not stated' in note for note in report.notes)
    with pytest.raises(CheckpointError, match=r'6 heads of attention \(source: --weights-heads\), the model has 3'):
        load_encoder(vit(arch=dict(width=192, depth=1, heads=3), image_size=224, patch_size=16), tmp_path / 'vit.pth',
                     heads=6)


@pytest.mark.parametrize('options', [dict(reg_tokens=2), dict(pre_norm=True), dict(qk_norm=True)], ids=str)
def test_other_kinds_of_vits_are_refused_with_advice(tmp_path: Path, options: dict):
    torch.save(model(**options).state_dict(), tmp_path / 'vit.pth')
    with pytest.raises(CheckpointError, match=r"another kind .* Use type='mae_backbone.TimmViT'"):
        load_encoder(vit(), tmp_path / 'vit.pth', heads=HEADS)
