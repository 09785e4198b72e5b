"""Cascade Mask R-CNN, ViTDet-B from MAE weights, COCO, 25 epochs: a quarter of the schedule of 100 epochs.

Run     mae-backbone train cascade-mask-rcnn_vitdet-b_25e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 297 GPU hours = 0.362 s per image (12.3 GB) x 64 images x 46,093 steps (detectron2, projects/ViTDet, GPU
        not named)
Expect  no published figure for 25 epochs of this recipe, 54.0 box AP and 46.7 mask AP after 100 (detectron2,
        projects/ViTDet). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/cascade-mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vitdet_25e.py',
]
