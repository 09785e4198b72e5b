"""ViTDet on COCO for 100 epochs: optimizer of ViT-B, schedule and runtime (detectron2, projects/ViTDet)."""
_base_ = ['../runtime_mmdet.py']

batch_size = 64  # 16 GPUs with 4 images each
max_iters = 184_375  # 100 epochs * 118_000 images / 64 per step
milestones = [163_889, 177_546]  # 8/9 and 26/27 of max_iters

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mae_backbone.LayerDecayConstructor',
    # Norms of the ViT do not decay. An empty entry exempts the norms of neck and heads from norm_decay_mult.
    paramwise_cfg=dict(layer_decay=0.7, norm_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'neck': dict(), 'roi_head': dict()}))
auto_scale_lr = dict(base_batch_size=batch_size, enable=True)
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
