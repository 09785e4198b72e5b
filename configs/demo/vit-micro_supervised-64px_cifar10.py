"""Supervised training on CIFAR-10 at 64 pixels with patches of 8: initial weights for nuclei and CamVid.

Run     mae-backbone train vit-micro_supervised-64px_cifar10 --data-root cifar10
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  49.6 top-1 on CIFAR-10 after both epochs (ours, one seed); as initial weights: the table of few labels in
        docs/benchmarks.md

All weights of the ViT have the shapes of mae_vit-micro_nuclei.py and mae_vit-micro_camvid.py. Two epochs, 780
iterations of 128 images, take about as long as their 3,500 iterations of 64, whose encoder processes a quarter of each
image.
"""
_base_ = ['./vit-micro_supervised_cifar10.py']

image_size = 64
max_epochs = 2

model = dict(backbone=dict(image_size=image_size, patch_size=8))
train_dataloader = dict(dataset=dict(image_size=image_size))
val_dataloader = dict(dataset=dict(image_size=image_size))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=0, end=max_epochs, T_max=max_epochs, by_epoch=True,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
