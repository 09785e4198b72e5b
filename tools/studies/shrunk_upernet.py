"""ADE20K's recipe of UPerNet with ViT-B, with the width, depth and crop of upernet_vit-micro_camvid.

Run     mae-backbone train tools/studies/shrunk_upernet.py --data-root camvid --pretrained MAE.pth --amp --iters 330
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png, classes.txt
Expect  docs/benchmarks.md, "Planned recipes"

The jitter of the image size, the learning rate with its layer decay, and the schedule are ADE20K's. The warm-up is a
twelfth of the training, because ADE20K's fraction (1,500 of 160,000 iterations) would be three steps.
"""
_base_ = ['../../configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py']

window = (192, 192)
max_iters = 300
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(768, 192), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=window, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(768, 192), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
model = dict(
    data_preprocessor=dict(size=window, test_cfg=dict(size=window)),
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=8,
        image_size=192, pretrain_image_size=64, drop_path_rate=0.1, out_indices=[1, 2, 3, 5], class_token=True,
        relative_bias='block'),
    neck=dict(embed_dim=128, rescales=[2, 1, 0.5, 0.25]),  # strides 4 to 32 as with patches of 16
    decode_head=dict(in_channels=[128] * 4, channels=128, num_classes=11),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=11),
    test_cfg=dict(crop_size=window, stride=(128, 128)))
dataset = dict(
    _delete_=True, type='BaseSegDataset', data_root='data/camvid', img_suffix='.jpg', seg_map_suffix='.png',
    metainfo=dict(classes=('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian',
                           'bicyclist')))
train_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(
    **dataset, data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(
    **dataset, data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=max_iters // 12),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=max_iters // 12, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
