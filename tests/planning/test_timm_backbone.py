"""A model of timm in the place of our ViT: every kind of neck and head gets the channels and the stride it needs."""
import pytest
import torch
from helpers.config_files import load, scope
from mmengine.config import Config
from mmengine.registry import MODELS

from mae_backbone.planning.pixel_normalization import check_pixels
from mae_backbone.planning.timm_backbone import timm_overrides

TINY = dict(embed_dim=96, depth=6, num_heads=2)


def merged(file: str, name: str = 'vit_small_patch14_reg4_dinov2', **options: object) -> Config:
    cfg = load(f'configs/{file}.py')
    cfg.merge_from_dict(timm_overrides(cfg, name, TINY | options))
    return cfg


@pytest.mark.parametrize('file', [
    'detection/mask-rcnn_vitdet-b_25e_coco', 'detection/mask-rcnn_vit-fpn-b_25e_coco',
    'detection/mask-rcnn_vitdet-b-fpn_100e_coco', 'detection/dino_vitdet-b_12e_coco',
    'segmentation/upernet_vit-b_40k_ade20k-512x512', 'segmentation/upernet_vitdet-b_160k_ade20k-512x512',
    'segmentation/linear_vit-b_40k_ade20k-512x512', 'segmentation/fcn_vit-b_40k_ade20k-512x512',
    'demo/dense-linear_vit-micro_camvid', 'demo/mask-rcnn_vit-micro_nuclei'])
def test_maps_of_timm_fit_neck_and_heads(file: str):
    cfg, before = merged(file), load(f'configs/{file}.py')
    patch_size = before.model.backbone.patch_size
    with scope(cfg):
        backbone = MODELS.build(cfg.model.backbone).eval()
        assert backbone.patch_size == patch_size
        assert backbone.grid == (37, 37)    # the positions of DINOv2 are kept
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 3, 16 * patch_size, 8 * patch_size))
            assert len(maps) == len(before.model.backbone.get('out_indices', [-1]))
            neck = cfg.model.get('neck')
            for part in neck if isinstance(neck, list) else [neck] if neck else []:
                maps = MODELS.build(part).eval()(tuple(maps))
            for name in ('decode_head', 'auxiliary_head'):
                head = cfg.model.get(name)
                if head and head.type != 'Mask2FormerHead':
                    channels = head.in_channels if isinstance(head.in_channels, list) else [head.in_channels]
                    indices = head.in_index if isinstance(head.in_index, list) else [head.in_index]
                    assert [maps[i].shape[1] for i in indices] == channels
                    MODELS.build(head)
    old, new = before.optim_wrapper.paramwise_cfg, cfg.optim_wrapper.paramwise_cfg
    assert new == {**old, 'no_decay_of_model': True}


def test_frozen_and_output_blocks_keep_their_relative_depth():
    assert merged('segmentation/linear_vit-b_40k_ade20k-512x512').model.backbone.frozen_stages == 6
    assert merged('segmentation/upernet_vit-b_40k_ade20k-512x512').model.backbone.out_indices == [1, 2, 3, 5]


def test_pixels_and_pooling_are_those_of_the_model():
    cfg = merged('classification/vit-b_linear_90e_in1k', 'vit_base_patch16_siglip_224')
    assert cfg.model.pool == 'model'
    assert cfg.model.data_preprocessor == dict(type='ImgDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)
    assert 'patch_size' not in cfg.model.backbone
    assert MODELS.build(cfg.model).head.in_features == 96


def test_configs_that_cannot_take_a_model_of_timm_are_refused():
    with pytest.raises(ValueError, match='the config has the backbone None'):
        merged('pretrain/mae_vit-b_800e_in1k')
    cfg = load('configs/detection/mask-rcnn_vitdet-b_25e_coco.py')
    cfg.model.neck.in_channels = 512
    with pytest.raises(ValueError, match='has in_channels=512, expected the width 768'):
        timm_overrides(cfg, 'vit_small_patch14_dinov2', TINY)
    with pytest.raises(ValueError, match='channels of the config belong to a width of 768'):
        merged('detection/mask-rcnn_vitdet-b-fpn_100e_coco', embed_dim=34)


def test_pixels_left_to_the_checkpoint_are_those_that_timm_states():
    cfg = Config(dict(model=dict(
        backbone=dict(type='mae_backbone.TimmViT', name='vit_base_patch16_siglip_224', **TINY),
        data_preprocessor=dict(mean='checkpoint', std='checkpoint'))))
    line, = check_pixels(cfg, None)
    assert 'stated by timm for vit_base_patch16_siglip_224' in line
    assert cfg.model.data_preprocessor == dict(mean=[127.5] * 3, std=[127.5] * 3)
