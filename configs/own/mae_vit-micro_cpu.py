"""MAE pretraining of a 1.2 M parameter ViT on images of your own, from random weights, for a CPU.

Run     mae-backbone pretrain mae_vit-micro_cpu --data-root DIR
Data    any folder of images
Expect  no published figure. Ours: not measured yet.

`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/mae_vit-micro.py',
    '../_base_/datasets/unlabeled.py',
    '../_base_/schedules/mae_micro_3500i.py',
]

image_size = 64

model = dict(
    encoder=dict(image_size=image_size, patch_size=8), decoder_width=128, decoder_depth=1,
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
train_dataloader = dict(batch_size=64, dataset=dict(data_root='data/own', image_size=image_size))
