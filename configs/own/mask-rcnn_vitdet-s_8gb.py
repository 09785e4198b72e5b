"""Mask R-CNN on ViTDet-S, your own images at 512 pixels, for a GPU with 8 GB.

Run     mae-backbone train mask-rcnn_vitdet-s_8gb --data-root DIR --amp
Weights dino_vits16, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  no published figure. Ours: not measured yet.

A step of the optimizer sees 2 images x 8 accumulated batches = 16: 6,000 steps are 48,000 iterations.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-s.py',
    '../_base_/datasets/own-coco.py',
    '../_base_/schedules/own-detection.py',
]

max_iters = 6000 * 8
warmup_iters = 250 * 8

model = dict(
    data_preprocessor=dict(pad_size_divisor=512),
    backbone=dict(image_size=512))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(accumulative_counts=8, paramwise_cfg=dict(layer_decay=0.75))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
