"""Fine-tuning on ImageNet-1K for 100 epochs, ViT-B (public MAE code: FINETUNE.md, main_finetune.py, lr_decay.py)."""
_base_ = ['../runtime.py']

max_epochs = 100
warmup_epochs = 5
lr = 5e-4 * 1024 / 256

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0,
                       custom_keys={'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)}))
# The learning rate is meant for 1,024 images per step (8 GPUs with 128 each) and is scaled to the batch of your run.
auto_scale_lr = dict(base_batch_size=1024, enable=True)
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    # Down to 1e-6 for the head, and to the same fraction of its peak for every other layer.
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         eta_min_ratio=1e-6 / lr, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
