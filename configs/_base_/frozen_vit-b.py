"""A head on the last map of a frozen ViT-B: model, optimizer and 40,000 iterations, for probes of dense features."""
_base_ = ['./upernet_vit-b.py']

max_iters = 40_000
warmup_iters = 1500

model = dict(
    # As pretrained: with its class token and its last norm, without new positions, without dropped paths.
    backbone=dict(
        out_indices=[-1], frozen_stages=12, final_norm=True, relative_bias=None, drop_path_rate=0.0),
    neck=None,
    decode_head=dict(
        _delete_=True, in_channels=768, in_index=0, channels=768, dropout_ratio=0.0, num_classes=150,
        align_corners=False, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=None)
# DINOv3 (Simeoni et al., 2025), linear segmentation: AdamW, 1e-3 and 1e-3, batches of 16. Warm-up and decay: ours.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=1e-3), paramwise_cfg=dict(_delete_=True, flat_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
