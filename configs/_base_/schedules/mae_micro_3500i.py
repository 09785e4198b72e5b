"""3,500 iterations of small pretraining, with clipped gradients."""
_base_ = ['./mae_micro.py']

warmup_iters = 100
max_iters = 3500

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500), health=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=500, by_epoch=False)]
