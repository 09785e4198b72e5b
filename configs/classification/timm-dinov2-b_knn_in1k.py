"""k-nearest-neighbor classification with the class token of DINOv2 ViT-B/14 of timm, ImageNet-1K, without training.

Run     mae-backbone test timm-dinov2-b_knn_in1k weights/vit_base_patch14_reg4_dinov2.lvd142m
Weights a copy of that repository of the Hugging Face hub, or a file of weights
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   1,331,167 forward passes, and 2.0 GB of device memory for the features: 1,281,167 x 768 in float16
Expect  82.0 top-1 (facebookresearch/dinov2, README). Ours: not measured yet.
"""
_base_ = ['./vit-b_knn_in1k.py']

model = dict(
    # 224 pixels are 16 patches of 14. The positions of 518 pixels are interpolated.
    backbone=dict(
        _delete_=True, type='mae_backbone.TimmViT', name='vit_base_patch14_reg4_dinov2.lvd142m',
        init_cfg=dict(type='Pretrained', checkpoint='weights/vit_base_patch14_reg4_dinov2.lvd142m')),
    pool='class')
