"""MAE pretraining of a 1.2 M parameter ViT on CIFAR-10 with less arithmetic per image.

Run     mae-backbone pretrain mae_vit-micro_fast_cifar10 --data-root cifar10/train
Data    cifar10/train/CLASS/*.jpg (50,000 images of 32x32), or any folder of images
Costs   0.63 of the FLOPs of mae_vit-micro_cifar10: `mae-backbone benchmark flops mae_vit-micro_fast_cifar10 --against
        mae_vit-micro_cifar10`
Expect  not measured yet
"""
_base_ = ['./mae_vit-micro_cifar10.py']

# Sources: configs/_base_/models/mae-fast_vit-b.py and configs/_base_/schedules/mae-fast_800e.py. The sizes are
# 5/7, 6/7 and all of the image, rounded to patches of 4.
model = dict(decoder_depth=1, predict_ratio=0.5)
default_hooks = dict(
    image_sizes=dict(type='mae_backbone.ImageSizeHook', stages=[(0, 24), (1 / 3, 28), (2 / 3, 32)]))
