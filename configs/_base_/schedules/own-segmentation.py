"""UPerNet on ViTDet's backbone for 20,000 steps of 16 images: the optimizer of upernet-vitdet_160k.py, ours."""
_base_ = ['./upernet-vitdet_160k.py']

max_iters = 20_000
warmup_iters = 1500

auto_scale_lr = dict(enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
