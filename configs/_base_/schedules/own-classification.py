"""Classification of a few thousand images of your own: 5,000 steps, iterations counted."""
_base_ = ['../runtime.py']

max_iters = 5000
warmup_iters = 250

# FINETUNE.md of the public MAE code has 2e-3 for 1,024 images, scaled linearly: 2e-3 * 64 / 1024.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.25e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)}))
auto_scale_lr = dict(base_batch_size=64, enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=max_iters // 10, save_best='accuracy/top1', rule='greater'))
log_processor = dict(by_epoch=False)
