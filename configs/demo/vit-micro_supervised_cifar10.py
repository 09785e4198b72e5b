"""Supervised training of a 1.2 M parameter ViT on CIFAR-10: a start to compare with a MAE of the same cost.

Run     python tools/train.py configs/demo/vit-micro_supervised_cifar10.py --data-root cifar10
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders; the classes are the folders of train
Expect  the table in the README

Ten epochs take as long as the seven of mae_vit-micro_cifar10.py.
"""
_base_ = ['vit-micro_finetune_cifar10.py']

max_epochs = 10
train_dataloader = dict(dataset=dict(fraction=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=max_epochs, T_max=max_epochs - 1, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
