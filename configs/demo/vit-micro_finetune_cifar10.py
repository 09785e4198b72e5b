"""Fine-tuning a 1.2 M parameter ViT on a tenth of CIFAR-10's labels.

Run     python tools/train.py configs/demo/vit-micro_finetune_cifar10.py --data-root cifar10 --pretrained MAE.pth
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders; the classes are the folders of train
Expect  the table in the README
"""
_base_ = ['../_base_/demo_cifar10.py']

max_epochs = 5
label_fraction = 0.1  # of each class: 5,000 images
model = dict(backbone=dict(drop_path_rate=0.1), label_smoothing=0.1)
train_dataloader = dict(dataset=dict(fraction=label_fraction))
# No layer decay: the same recipe must serve random weights, and six blocks are few.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=max_epochs, T_max=max_epochs - 1, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
