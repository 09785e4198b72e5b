"""Mask R-CNN without a pyramid, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-b-single_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about the same as the base config: 0.314 s per image, 10.9 GB (detectron2, projects/ViTDet)
Expect  47.8 box AP, 42.5 mask AP; the simple feature pyramid has 51.2 / 45.5 (ViTDet paper, table 1). Ours: not
        measured yet.

All anchors and regions are on the last feature map, of stride 16.
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_coco.py']

model = dict(
    neck=dict(strides=[16], extra_levels=0),
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8, 16, 32], strides=[16])),  # 32 to 512 pixels
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[16]), mask_roi_extractor=dict(featmap_strides=[16])))
