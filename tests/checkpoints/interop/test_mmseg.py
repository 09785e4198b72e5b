"""Backbones of mmseg: MAE, BEiT and ViT."""
from pathlib import Path

import pytest
import torch
from helpers.interop import assert_agree, images, randomize
from helpers.small_vit import ARCH, DEPTH, HEADS, PATCH, SIZE, WIDTH
from torch import nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.models.backbone import ViTBackbone

SIZES = dict(img_size=(SIZE, SIZE), patch_size=PATCH, embed_dims=WIDTH, num_layers=DEPTH, num_heads=HEADS, mlp_ratio=4,
             out_indices=(0, 1), norm_cfg=dict(type='LN', eps=1e-6))


@pytest.mark.parametrize(('kind', 'options'), [
    ('MAE', dict(init_values=0.5)), ('BEiT', dict(init_values=0.5, qv_bias=True)),
    ('VisionTransformer', dict(interpolate_mode='bicubic', with_cls_token=True, patch_bias=True))])
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_backbone_of_mmseg(tmp_path: Path, kind: str, options: dict):
    from mmseg.models import backbones
    theirs: nn.Module = randomize(getattr(backbones, kind)(**SIZES, **options))
    path = tmp_path / 'segmentor.pth'
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in theirs.state_dict().items()}
                    | {'decode_head.conv_seg.bias': torch.ones(3)}, meta={}), path)
    ours = ViTBackbone(ARCH, image_size=SIZE, patch_size=PATCH, class_token=True, out_indices=(0, 1),
                       relative_bias=None if kind == 'VisionTransformer' else 'block').eval()
    report = load_encoder(ours, path, heads=HEADS)
    assert report.layout == ('mmseg ViT' if kind == 'VisionTransformer' else 'mmseg MAE and BEiT')
    with torch.no_grad():
        found, expected = ours(images()), theirs(images())
    for level, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert_agree(f'mmseg {kind}, block {level}', one, other)
