"""Frozen DINOv2 ViT-B/14 of timm with a linear segmentation head on its last feature map."""
_base_ = ['./linear_vit-b.py']

window = (518, 518)  # pixels: 37 patches of 14

model = dict(
    data_preprocessor=dict(size=window, test_cfg=dict(size=window)),
    backbone=dict(
        _delete_=True, type='mae_backbone.TimmViT', name='vit_base_patch14_reg4_dinov2.lvd142m', frozen_stages=12,
        init_cfg=dict(type='Pretrained', checkpoint='weights/vit_base_patch14_reg4_dinov2.lvd142m')),
    test_cfg=dict(crop_size=window, stride=(345, 345)))
