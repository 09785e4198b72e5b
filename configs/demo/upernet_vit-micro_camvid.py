"""UPerNet on a 1.3 M parameter ViT with a simple feature pyramid: street scenes in 11 classes.

Run     python tools/train.py configs/demo/upernet_vit-micro_camvid.py --data-root camvid --pretrained MAE.pth
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 to
        ignore, classes.txt with a name a line
Expect  the table in the README
"""
_base_ = ['../_base_/demo_runtime.py']
default_scope = 'mmseg'
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.segmentation'])

data_root = 'data/camvid'
patch_size = 8
crop = 192
max_iters = 500
channels = 64

model = dict(
    type='mae_backbone.EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[104.5, 107.9, 109.7], std=[78.2, 79.4, 78.3], bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255, size_divisor=patch_size, test_cfg=dict(size_divisor=patch_size)),
    backbone=dict(
        type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=patch_size,
        image_size=crop, pretrain_image_size=64, window_size=8, global_blocks=(2, 5), relative_positions=True,
        drop_path_rate=0.1),
    neck=dict(
        type='mae_backbone.SimpleFeaturePyramid', in_channels=128, out_channels=channels, input_stride=patch_size,
        strides=(4, 8, 16, 32), extra_levels=0, calibrate=True),
    decode_head=dict(
        type='UPerHead', in_channels=[channels] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
        channels=channels, dropout_ratio=0.1, num_classes=11, norm_cfg=dict(type='BN'), align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0,
            # What tools/check_data.py prints for the training set: a bicyclist has 0.3 % of the pixels, the road 33 %.
            class_weight=[0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92])),
    train_cfg=dict(), test_cfg=dict(mode='whole'))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.75),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset', data_root=data_root, img_suffix='.jpg', seg_map_suffix='.png', reduce_zero_label=False,
    metainfo=dict(
        classes=('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian',
                 'bicyclist'),
        palette=[(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
                 (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)]))
train_dataloader = dict(
    batch_size=4, num_workers=1, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset, data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# No layer decay: the same recipe must serve random weights, and six blocks are few. The learning rate is that of
# quickstart_segmentation.py.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=100),
    visualization=dict(type='SegVisualizationHook'))
log_processor = dict(by_epoch=False)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
