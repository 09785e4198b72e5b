"""Linear probing on ImageNet-1K for 90 epochs, ViT-B (public MAE code: FINETUNE.md, main_linprobe.py, util/lars.py)."""
_base_ = ['../runtime.py']

max_epochs = 90
warmup_epochs = 10

# No weight decay, and plain SGD for biases. timm's Lars adapts the rate only of groups that decay, hence a weight decay
# close to zero, from which flat_decay_mult exempts the biases.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='timm.optim.Lars', lr=0.1 * 16384 / 256, momentum=0.9, trust_coeff=0.001, weight_decay=1e-12,
                   eps=0.0),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
# The learning rate is meant for 16,384 images per step (32 GPUs with 512 each) and is scaled to the batch of your run.
auto_scale_lr = dict(base_batch_size=16384, enable=True)
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
