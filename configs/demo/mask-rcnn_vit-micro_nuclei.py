"""Mask R-CNN on a 1.3 M parameter ViT with a simple feature pyramid: instance segmentation of nuclei.

Run     python tools/train.py configs/demo/mask-rcnn_vit-micro_nuclei.py --data-root nuclei --pretrained MAE.pth
Data    any COCO-format set: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  the table in the README
"""
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', '../_base_/demo_runtime.py']
default_scope = 'mmdet'

data_root = 'data/nuclei/'
patch_size = 8
crop = 192  # pixels, a multiple of window_size * patch_size
max_iters = 600
channels = 64

norm = dict(type='mae_backbone.LayerNorm2d', eps=1e-6)
model = dict(
    data_preprocessor=dict(
        mean=[37.0] * 3, std=[63.0] * 3, bgr_to_rgb=True, pad_size_divisor=patch_size * 8),
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=patch_size,
        image_size=crop, pretrain_image_size=64, window_size=8, global_blocks=(2, 5), relative_positions=True,
        drop_path_rate=0.1),
    neck=dict(
        _delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=128, out_channels=channels,
        input_stride=patch_size, strides=(4, 8, 16, 32), extra_levels=0, calibrate=True),
    rpn_head=dict(
        in_channels=channels, feat_channels=channels,
        # Nuclei measure 6 to 43 pixels across (5th to 95th percentile of the training set).
        anchor_generator=dict(scales=[3], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(out_channels=channels, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels, norm_cfg=norm, num_classes=1)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500), rcnn=dict(max_per_img=400)))

metainfo = dict(classes=('nucleus',), palette=[(220, 20, 60)])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_type='absolute', crop_size=(crop, crop), recompute_bbox=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=4, num_workers=1, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'), filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'), test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric=['bbox', 'segm'],
    proposal_nums=(100, 300, 400))  # AP looks at the best 100 boxes, AP50 at 400: an image has up to 375 nuclei
test_evaluator = val_evaluator

# No layer decay: the same recipe must serve random weights, and six blocks are few.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=max_iters, T_max=max_iters - 50, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=200),
    visualization=dict(type='DetVisualizationHook'))
log_processor = dict(by_epoch=False)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
