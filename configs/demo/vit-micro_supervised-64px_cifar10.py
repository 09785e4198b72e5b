"""Supervised training on CIFAR-10 in 64 pixels, patches of 8: a start for nuclei and CamVid at the cost of their MAE.

Run     python tools/train.py configs/demo/vit-micro_supervised-64px_cifar10.py --data-root cifar10
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders; the classes are the folders of train
Expect  49.6 top-1 on CIFAR-10 itself after both epochs, one seed; as a start: the table of few labels in the README

The shapes of all weights of the ViT are those of mae_vit-micro_nuclei.py and mae_vit-micro_camvid.py. Two epochs, 780
iterations of 128 images, take about as long as their 3,500 of 64, of which the encoder sees a quarter.
"""
_base_ = ['vit-micro_supervised_cifar10.py']

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
