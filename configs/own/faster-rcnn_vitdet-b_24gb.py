"""Faster R-CNN on ViTDet-B, your own images at 640 pixels, for a GPU with 24 GB.

Run     mae-backbone train faster-rcnn_vitdet-b_24gb --data-root DIR --amp
Weights mae_vit_base, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  no published figure. Ours: not measured yet.

A step of the optimizer sees 4 images x 4 accumulated batches = 16: 6,000 steps are 24,000 iterations.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/own-coco-640px_boxes.py',
    '../_base_/schedules/own-detection.py',
]

max_iters = 6000 * 4
warmup_iters = 250 * 4

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_size_divisor=640),
    backbone=dict(image_size=640, init_cfg=dict(checkpoint='mae_vit_base')),
    roi_head=dict(mask_roi_extractor=None, mask_head=None))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(accumulative_counts=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
