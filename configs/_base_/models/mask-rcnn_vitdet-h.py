"""Mask R-CNN on ViTDet-H. The schedules have the layer decay of ViT-B: recipes set 0.9 and decay all parameters."""
_base_ = ['./mask-rcnn_vitdet-b.py']

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.5, global_blocks=[7, 15, 23, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1280))
