"""Supervised training from random weights for 200 epochs, ViT-L and ViT-H (MAE paper, table 11)."""
_base_ = ['./scratch_300e.py']

max_epochs = 200
warmup_epochs = 20

param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
