"""Mask R-CNN, ViT-B with an FPN as in the MAE paper (before ViTDet), COCO, 100 epochs.

Run     mae-backbone train mask-rcnn_vit-fpn-b_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 1,030 GPU hours and 10.9 GB, as for ViTDet-B (detectron2, projects/ViTDet)
Expect  50.3 box AP, 44.9 mask AP (MAE paper, table 4; facebookresearch/mae#43; MIMDet: 50.4 / 44.9). Ours: not measured
        yet.

Li et al., Benchmarking Detection Transfer Learning with Vision Transformers (2021), as in MIMDet's
configs/benchmarking: the outputs of four blocks, each rescaled to its own stride, with an FPN on top; batch norm in FPN
and heads; windows of 16 patches; a cosine schedule; one learning rate for all layers. Two differences on purpose:
relative positions are ViTDet's decomposed ones instead of BEiT's bias per pair, and images are flipped before they are
scaled instead of after the crop, which has the same distribution.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vit-fpn-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vit-fpn_100e.py',
]
