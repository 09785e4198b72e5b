"""UPerNet for 160,000 iterations: optimizer of ViT-B, schedule, runtime (implus/mae_segmentation; mmseg)."""
_base_ = ['../runtime_mmseg.py']

max_iters = 160_000
warmup_iters = 1500

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor',
    # Position embeddings do not decay, as in MAE's fine-tuning, nor do tables of relative positions, as in Swin's code.
    paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0),
        'relative_position_bias_table': dict(decay_mult=0.0)}))
auto_scale_lr = dict(base_batch_size=16, enable=True)  # 8 GPUs with 2 images each
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
