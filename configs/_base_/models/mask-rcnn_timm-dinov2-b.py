"""Mask R-CNN on DINOv2 ViT-B of timm with ViTDet's simple feature pyramid, our own combination."""
_base_ = ['./mask-rcnn_vitdet-b.py']

model = dict(
    backbone=dict(
        # Patches of 14 pixels are resized to 16, so that the levels of the pyramid have the strides of the heads.
        _delete_=True, type='mae_backbone.TimmViT', name='vit_base_patch14_reg4_dinov2.lvd142m', image_size=512,
        patch_size=16, drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='weights/vit_base_patch14_reg4_dinov2.lvd142m')))
