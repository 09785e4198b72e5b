"""The MAE paper's detector on COCO for 100 epochs: one rate for all layers, cosine (MIMDet, configs/benchmarking)."""
_base_ = ['./vitdet_100e.py']

max_iters = 184_375
warmup_iters = 461  # 0.25 epochs * 118_000 images / 64 per step

optim_wrapper = dict(
    optimizer=dict(lr=8e-5),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'rel_pos': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters + 1),
    # From the first iteration on, as in detectron2: the warm-up multiplies the cosine.
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters, eta_min=0.0),
]
