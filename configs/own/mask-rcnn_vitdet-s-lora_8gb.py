"""Mask R-CNN on ViTDet-S trained by LoRA, for 200 to 1,000 labeled images of your own, for a GPU with 8 GB.

Run     mae-backbone train mask-rcnn_vitdet-s-lora_8gb --data-root DIR --amp
Weights dino_vits16, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  no published figure. Ours: not measured yet.

The encoder is frozen. Matrices of rank 16 next to its weights are trained, as in RF-DETR. Needs peft (extra lora).
"""
_base_ = ['./mask-rcnn_vitdet-s_8gb.py']

model = dict(backbone=dict(
    lora=dict(rank=16),
    # These weights have no relative positions. New tables start at zero and would be frozen: time without an effect.
    relative_positions=False))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=1.0))  # the matrices start at zero in all blocks
