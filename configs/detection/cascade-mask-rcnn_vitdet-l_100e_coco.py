"""Cascade Mask R-CNN, ViTDet-L from MAE weights, COCO, 100 epochs.

Run     mae-backbone train cascade-mask-rcnn_vitdet-l_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 2,110 GPU hours = 0.643 s per image (22.3 GB) x 64 images x 184,375 steps (detectron2, projects/ViTDet,
        GPU not named)
Expect  57.6 box AP, 50.0 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/cascade-mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vitdet_100e.py',
]

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.4, global_blocks=[5, 11, 17, 23],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
