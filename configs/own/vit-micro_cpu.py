"""Fine-tuning of a 1.2 M parameter ViT on class folders of your own, at 64 pixels, for a CPU.

Run     mae-backbone train vit-micro_cpu --data-root DIR --pretrained MAE.pth
Data    {train,val}/CLASS/*.jpg: the classes are the folders of train
Expect  no published figure. Ours: not measured yet.

MAE.pth is a checkpoint of mae_vit-micro_cpu on your images.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/vit-micro_classifier.py',
    '../_base_/datasets/own-classes.py',
    '../_base_/schedules/own-micro-classification.py',
]

image_size = 64

model = dict(
    backbone=dict(image_size=image_size, patch_size=8, drop_path_rate=0.1), label_smoothing=0.1,
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
train_dataloader = dict(num_workers=1, batch_size=128, dataset=dict(image_size=image_size))
val_dataloader = dict(num_workers=1, dataset=dict(image_size=image_size))
test_dataloader = val_dataloader
