"""Mask R-CNN on ViTDet-B, your own images at 800 pixels, for a GPU with 80 GB.

Run     mae-backbone train mask-rcnn_vitdet-b_80gb --data-root DIR --amp
Weights mae_vit_base, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  no published figure. Ours: not measured yet.

A step sees 16 images.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/own-coco-800px.py',
    '../_base_/schedules/own-detection.py',
]

model = dict(
    data_preprocessor=dict(pad_size_divisor=800),
    backbone=dict(image_size=800, init_cfg=dict(checkpoint='mae_vit_base')))
train_dataloader = dict(batch_size=16)
