"""Mask R-CNN with an FPN over the last feature map, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-b-fpn-last_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about the same as the base config: 0.314 s per image, 10.9 GB (detectron2, projects/ViTDet)
Expect  50.9 box AP, 45.3 mask AP; the simple feature pyramid has 51.2 / 45.5 (ViTDet paper, table 1). Ours: not
        measured yet.

Only the last feature map, rescaled to four strides, with an FPN on top (figure 2b of the paper).
"""
_base_ = ['./mask-rcnn_vitdet-b-fpn_100e_coco.py']

model = dict(backbone=dict(out_indices=[-1]))
