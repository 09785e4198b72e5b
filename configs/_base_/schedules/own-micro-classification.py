"""Classification on a CPU: 1,000 iterations, for pretrained and for random weights."""
_base_ = ['../runtime_demo.py']

max_iters = 1000
warmup_iters = 80

# No layer decay: six blocks are few.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 4)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=max_iters // 4, save_best='accuracy/top1', rule='greater'))
log_processor = dict(by_epoch=False)
