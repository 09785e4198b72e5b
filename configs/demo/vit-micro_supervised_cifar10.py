"""Supervised training on all labels of CIFAR-10: the start that a MAE of the same cost is compared with.

Run     python tools/train.py configs/demo/vit-micro_supervised_cifar10.py --data-root cifar10
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders; the classes are the folders of train
Expect  50.2 top-1 on CIFAR-10 itself after three epochs, one seed; as a start: the table of few labels in the README

Three epochs, 1,170 iterations of 128 images, take about as long as the 7 epochs of mae_vit-micro_cifar10.py, whose
encoder sees a quarter of each image. It is a start that has seen all labels of the set, also where it is then
fine-tuned with few of them.
"""
_base_ = ['vit-micro_finetune_cifar10.py']

max_epochs = 3
train_dataloader = dict(dataset=dict(fraction=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
