"""Supervised training from random weights for 300 epochs, ViT-B (MAE paper, table 11)."""
_base_ = ['./finetune_100e.py']

max_epochs = 300
warmup_epochs = 20
lr = 1e-4 * 4096 / 256

# As in fine-tuning, biases and norms do not decay.
optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.3), paramwise_cfg=dict(layer_decay=1.0))
# The learning rate is meant for 4,096 images per step (32 GPUs with 128 each) and is scaled to the batch of your run.
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
