"""UPerNet for 40,000 iterations: the schedule of 160,000 with the same warm-up, ours."""
_base_ = ['./upernet_160k.py']

max_iters = 40_000
warmup_iters = 1500

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
