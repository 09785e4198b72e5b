"""DINOv2 ViT-B/14 of timm with a linear classifier of ImageNet-1K's 1,000 classes on its class token."""
_base_ = ['./vit-b_classifier.py']

model = dict(
    # 224 pixels are 16 patches of 14. The positions of 518 pixels are interpolated.
    backbone=dict(
        _delete_=True, type='mae_backbone.TimmViT', name='vit_base_patch14_reg4_dinov2.lvd142m',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vit_base_patch14_reg4_dinov2.lvd142m')),
    pool='class')
