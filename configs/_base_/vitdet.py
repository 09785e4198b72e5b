"""Mask R-CNN on ViTDet-B: model, optimizer and the schedule of 100 epochs of COCO (detectron2, projects/ViTDet)."""
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', './runtime_mmdet.py']

batch_size = 64  # 16 GPUs with 4 images each
max_iters = 184_375  # 100 epochs * 118_000 images / 64 a step
milestones = [163_889, 177_546]  # 8/9 and 26/27 of them: 88.9 and 96.3 epochs
norm_cfg = dict(type='mae_backbone.LayerNorm2d', eps=1e-6)

model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),  # zeros after normalization, in testing too
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch='base', image_size=1024, pretrain_image_size=224,
        patch_size=16, drop_path_rate=0.1, window_size=14, global_blocks=[2, 5, 8, 11], relative_positions=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(_delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))))

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
