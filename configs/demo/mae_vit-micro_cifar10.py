"""MAE pretraining of a 1.2 M parameter ViT on CIFAR-10, labels unused.

Run     mae-backbone pretrain mae_vit-micro_cifar10 --data-root cifar10/train
Data    cifar10/train/CLASS/*.jpg (50,000 images of 32x32), or any folder of images
Expect  docs/benchmarks.md

For your own images, replace what was measured on CIFAR-10: mean and std (`mae-backbone measure` prints them) and
image_size.
"""
_base_ = ['../_base_/models/mae_vit-micro.py', '../_base_/datasets/unlabeled.py', '../_base_/schedules/mae_micro.py']

image_size = 32
max_epochs = 7

model = dict(
    encoder=dict(image_size=image_size, patch_size=4),
    data_preprocessor=dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]))
train_dataloader = dict(batch_size=256, dataset=dict(data_root='data/cifar10/train', image_size=image_size))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end=max_epochs, T_max=max_epochs - 1, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(health=dict(interval=2))
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=4)]
