"""The MAE paper's detector on COCO for 100 epochs: one rate for all layers, cosine (MIMDet, configs/benchmarking)."""
_base_ = ['./vitdet_100e.py']

max_iters = 184_375
warmup_iters = 0.25 * 118_000 / 64  # 0.25 epochs

optim_wrapper = dict(
    optimizer=dict(lr=8e-5),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'rel_pos': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=warmup_iters,
         cosine_length=max_iters),
    # From the first iteration on, as in detectron2: the warm-up leads to the value of the cosine at its end.
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters, eta_min=0.0),
]
