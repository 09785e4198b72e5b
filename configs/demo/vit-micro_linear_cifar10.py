"""Linear probe of a frozen 1.2 M parameter ViT on CIFAR-10.

Run     mae-backbone train vit-micro_linear_cifar10 --data-root cifar10 --pretrained MAE.pth
        with a fifth of the labels of each class, as in docs/benchmarks.md: --labels 0.2
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  docs/benchmarks.md

For your own images, replace what was measured on CIFAR-10: mean and std (`mae-backbone measure` prints them) and
image_size.
"""
_base_ = ['../_base_/models/vit-micro_classifier.py', '../_base_/datasets/cifar10.py', '../_base_/runtime_demo.py']

max_epochs = 3

model = dict(probe=True)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.0))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
