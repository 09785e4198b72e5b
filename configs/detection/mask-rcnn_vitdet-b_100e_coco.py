"""Mask R-CNN, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-b_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 1,030 GPU hours: .314 s an image, 10.9 GB (detectron2, projects/ViTDet) x 64 x 184,375 steps
Expect  51.6 box AP, 45.9 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.

As in detectron2, the norms of the ViT and its positions do not decay; biases, tables of relative positions and the
norms of pyramid and heads do. Images are resized by OpenCV here, by PIL there.
"""
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/datasets/coco_instance.py',
    '../_base_/runtime_mmdet.py',
]

batch_size = 64  # 16 GPUs with 4 images each
max_iters = 184_375  # 100 epochs * 118_000 images / 64 a step
milestones = [163_889, 177_546]  # 8/9 and 26/27 of them: 88.9 and 96.3 epochs
image_size = (1024, 1024)
norm_cfg = dict(type='mae_backbone.LayerNorm2d', eps=1e-6)

model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),  # zeros after normalisation, in testing too
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch='base', image_size=1024, pretrain_image_size=224,
        patch_size=16, drop_path_rate=0.1, window_size=14, global_blocks=[2, 5, 8, 11], relative_positions=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(_delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))

# Large-scale jitter in the order of detectron2: flip, resize, crop, boxes from what is left of the masks.
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    # Crops without an object stay, as background (mmdet would draw another image).
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=4, num_workers=4, sampler=dict(type='InfiniteSampler'), batch_sampler=None,
    dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mae_backbone.LayerDecayConstructor',
    # Keys without settings take the norms that they hold out of norm_decay_mult.
    paramwise_cfg=dict(layer_decay=0.7, norm_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'neck': dict(), 'roi_head': dict()}))
auto_scale_lr = dict(base_batch_size=batch_size, enable=True)
param_scheduler = [
    # mmengine arrives at the full lr one step before `end`.
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250 + 1),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
