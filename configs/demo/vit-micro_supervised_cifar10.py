"""Supervised training on all labels of CIFAR-10: the baseline of a MAE of the same cost.

Run     mae-backbone train vit-micro_supervised_cifar10 --data-root cifar10
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  50.2 top-1 on CIFAR-10 after three epochs (ours, one seed); as initial weights: the table of few labels in
        docs/benchmarks.md

Three epochs, 1,170 iterations of 128 images, take about as long as the 7 epochs of mae_vit-micro_cifar10.py, whose
encoder processes a quarter of each image. These weights have seen all labels of the set, even when they are then
fine-tuned with few of them.
"""
_base_ = ['./vit-micro_finetune_cifar10.py']

max_epochs = 3

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
