"""MAE pretraining on images of your own that continues from public weights: 25,000 iterations of 64 images."""
_base_ = ['./mae_800e.py']

max_iters = 25_000
warmup_iters = 1250

# A third of MAE's 1.5e-4 for 256 images: our choice, no comparison for continued pretraining is published.
optim_wrapper = dict(optimizer=dict(lr=0.5e-4), accumulative_counts=4)
auto_scale_lr = dict(base_batch_size=256, enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='mae_backbone.PretrainLoop', max_iters=max_iters)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=max_iters // 5), health=dict(by_epoch=False, interval=max_iters // 5))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=max_iters // 5, by_epoch=False)]
