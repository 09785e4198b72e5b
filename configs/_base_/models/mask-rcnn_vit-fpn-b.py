"""Mask R-CNN on ViT-B with an FPN, before ViTDet: the detector of the MAE paper (MIMDet, configs/benchmarking)."""
_base_ = ['./mask-rcnn_vitdet-b.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)  # MMEngine builds a plain BatchNorm in a single process
# `c2_xavier_fill` of detectron2's FPN: uniform with a deviation of 1 / sqrt(inputs). mmdet's counts the outputs too.
fpn_init = dict(
    type='Kaiming', layer='Conv2d', a=1, mode='fan_in', nonlinearity='leaky_relu', distribution='uniform', bias=0)

model = dict(
    backbone=dict(window_size=16, out_indices=[2, 5, 8, 11]),
    neck=[
        dict(type='mae_backbone.Rescale', in_channels=768, narrowing=False, norm='GN'),
        dict(type='FPN', in_channels=[768, 768, 768, 768], out_channels=256, num_outs=5, norm_cfg=norm_cfg,
             init_cfg=fpn_init),
    ],
    roi_head=dict(
        bbox_head=dict(norm_cfg=dict(_delete_=True, **norm_cfg)),
        mask_head=dict(norm_cfg=dict(_delete_=True, **norm_cfg))))
