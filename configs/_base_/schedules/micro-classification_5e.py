"""5 epochs of small classification training, for pretrained and for random weights."""
_base_ = ['../runtime_demo.py']

max_epochs = 5

# No layer decay: the same recipe has to serve random weights, and six blocks are few.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=max_epochs, T_max=max_epochs - 1, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
