"""Fine-tuning on ImageNet-1K for 50 epochs, ViT-L and ViT-H (public MAE code, FINETUNE.md)."""
_base_ = ['./finetune_100e.py']

max_epochs = 50
warmup_epochs = 5
lr = 1e-3 * 1024 / 256

optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay=0.75))
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         eta_min_ratio=1e-6 / lr, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
