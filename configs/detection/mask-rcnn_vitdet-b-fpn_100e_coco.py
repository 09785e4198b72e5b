"""Mask R-CNN with an FPN over four stages, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-b-fpn_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about the same as the base config: 0.314 s per image, 10.9 GB (detectron2, projects/ViTDet)
Expect  50.3 box AP, 44.9 mask AP; the simple feature pyramid has 51.2 / 45.5 (ViTDet paper, table 1). Ours: not
        measured yet.

The outputs of four blocks, each rescaled to its own stride, with an FPN on top (figure 2a of the paper).
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_coco.py']
# `c2_xavier_fill` of detectron2's FPN: uniform with a deviation of 1 / sqrt(inputs). mmdet's counts the outputs too.
fpn_init = dict(
    type='Kaiming', layer='Conv2d', a=1, mode='fan_in', nonlinearity='leaky_relu', distribution='uniform', bias=0)

model = dict(
    backbone=dict(out_indices=[2, 5, 8, 11]),
    neck=[
        dict(type='mae_backbone.Rescale', in_channels=768),
        dict(type='FPN', in_channels=[192, 384, 768, 768], out_channels=256, num_outs=5, norm_cfg=_base_.norm_cfg,
             init_cfg=fpn_init),
    ])
