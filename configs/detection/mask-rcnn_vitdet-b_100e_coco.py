"""Mask R-CNN, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-b_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 1,030 GPU hours = 0.314 s per image (10.9 GB) x 64 images x 184,375 steps (detectron2, projects/ViTDet,
        GPU not named)
Expect  51.6 box AP, 45.9 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.

As in detectron2, the norms of the ViT and its positions do not decay, whereas biases, relative positions, and norms of
pyramid and heads do. One difference: images are resized by OpenCV, there by PIL.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vitdet_100e.py',
]
