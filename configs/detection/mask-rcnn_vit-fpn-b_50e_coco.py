"""Mask R-CNN, ViT-B with an FPN as in the MAE paper (before ViTDet), COCO, 50 epochs.

Run     mae-backbone train mask-rcnn_vit-fpn-b_50e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 515 GPU hours, as for ViTDet-B (detectron2, projects/ViTDet)
Expect  50.1 box AP, 44.6 mask AP (facebookresearch/mae#43; MIMDet: 50.2 / 44.9). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vit-fpn-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vit-fpn_50e.py',
]
