"""Mask R-CNN on ViTDet-S from public weights of DINO, our own combination: no such recipe is published."""
_base_ = ['./mask-rcnn_vitdet-b.py']

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='dino_vits16')), neck=dict(in_channels=384))
