"""Linear probing on ImageNet-1K for 50 epochs, which suffice for ViT-L and ViT-H (public MAE code, FINETUNE.md)."""
_base_ = ['./probe_90e.py']

max_epochs = 50
warmup_epochs = 10

param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
