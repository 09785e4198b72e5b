"""Mask R-CNN on ViTDet-L. The schedules have the layer decay of ViT-B: recipes set 0.8."""
_base_ = ['./mask-rcnn_vitdet-b.py']

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.4, global_blocks=[5, 11, 17, 23],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1024))
