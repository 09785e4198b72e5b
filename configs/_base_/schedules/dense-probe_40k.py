"""Probing of dense features for 40,000 iterations.

Rate, weight decay and batch are as in DINOv3's linear segmentation (Simeoni et al., 2025): AdamW, 1e-3, 1e-3, 16
images. Warm-up and decay are ours.
"""
_base_ = ['./upernet_40k.py']

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=1e-3), paramwise_cfg=dict(_delete_=True, flat_decay_mult=0.0))
