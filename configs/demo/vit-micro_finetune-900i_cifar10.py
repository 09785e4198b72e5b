"""Fine-tuning of a 1.2 M parameter ViT on CIFAR-10 for 900 iterations, for any number of labels, with a curve.

Run     mae-backbone train vit-micro_finetune-900i_cifar10 --data-root cifar10 --labels 0.1 --pretrained MAE.pth
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  not measured yet
"""
_base_ = ['./vit-micro_finetune-iters_cifar10.py']

max_iters = 900
warmup_iters = 90

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=150)
default_hooks = dict(checkpoint=dict(interval=150))
