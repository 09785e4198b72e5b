"""The MAE paper's detector on COCO for 25 epochs (facebookresearch/mae#43; MIMDet, configs/benchmarking)."""
_base_ = ['./vit-fpn_100e.py']

max_iters = 184_375 // 4
warmup_iters = 461  # 0.25 epochs * 118_000 images / 64 per step

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters + 1),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters, eta_min=0.0),
]
train_cfg = dict(max_iters=max_iters)
