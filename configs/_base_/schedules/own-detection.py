"""Detection on a few hundred to a few thousand images of your own: 6,000 steps of 16 images."""
_base_ = ['../runtime_mmdet.py']

max_iters = 6000
warmup_iters = 250

# ViTDet has 1e-4 for 64 images. Smaller batches have the root of the ratio: 1e-4 * sqrt(16 / 64).
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-5, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mae_backbone.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay=0.7, norm_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'neck': dict(), 'roi_head': dict()}))
auto_scale_lr = dict(base_batch_size=16, enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
