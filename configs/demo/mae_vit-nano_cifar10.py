"""MAE pretraining of a ViT with 0.2 M parameters on CIFAR-10, labels unused: a student small enough for one CPU core.

Run     mae-backbone pretrain mae_vit-nano_cifar10 --data-root cifar10/train
Data    cifar10/train/CLASS/*.jpg (50,000 images of 32x32), or any folder of images
Expect  docs/pretraining.md

For your own images, replace what was measured on CIFAR-10: mean and std (`mae-backbone measure` prints them) and
image_size.
"""
_base_ = [
    '../_base_/models/mae_vit-micro.py',
    '../_base_/datasets/unlabeled.py',
    '../_base_/schedules/mae_micro_3500i.py',
]

image_size = 32

model = dict(
    encoder=dict(arch=dict(width=64, depth=4, heads=4), image_size=image_size, patch_size=4),
    decoder_width=64, decoder_depth=1,
    data_preprocessor=dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]))
train_dataloader = dict(
    batch_size=64, dataset=dict(data_root='data/cifar10/train', image_size=image_size, cache=True))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
