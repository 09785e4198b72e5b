"""COCO's recipe of Mask R-CNN with ViTDet-B, with the width, depth and image size of mask-rcnn_vit-micro_nuclei.

Run     mae-backbone train tools/studies/shrunk_mask-rcnn.py --data-root nuclei --pretrained MAE.pth --amp --iters 215
Data    any set in COCO format
Expect  docs/benchmarks.md, "Planned recipes"

The jitter of the image size, the learning rate with its layer decay, and the steps of the schedule are COCO's. The
warm-up is a twelfth of the training, because COCO's fraction (250 of 184,375 iterations) would be less than one step.
"""
_base_ = ['../../configs/detection/mask-rcnn_vitdet-b_100e_coco.py']

data_root = 'data/nuclei/'
metainfo = dict(classes=('nucleus',))
image_size = (192, 192)
channels = 64
max_iters = 300
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
model = dict(
    data_preprocessor=dict(pad_size_divisor=192),
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=8,
        image_size=192, pretrain_image_size=64, drop_path_rate=0.1, window_size=8, global_blocks=[2, 5],
        relative_positions=True),
    neck=dict(in_channels=128, out_channels=channels, input_stride=8, strides=(4, 8, 16, 32), extra_levels=1),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(in_channels=channels, conv_out_channels=channels, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(in_channels=channels, conv_out_channels=channels, num_classes=1)))
train_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_train.json',
                 data_prefix=dict(img='train/'), pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_val.json',
                 data_prefix=dict(img='val/'), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False)
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=max_iters // 12),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, gamma=0.1,
         milestones=[max_iters * 8 // 9, max_iters * 26 // 27]),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
