"""Cascade Mask R-CNN, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     python tools/train.py configs/detection/cascade-mask-rcnn_vitdet-b_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 1,190 GPU hours: .362 s an image, 12.3 GB (detectron2, projects/ViTDet) x 64 x 184,375 steps
Expect  54.0 box AP, 46.7 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.

Three box heads, each on the boxes of the one before it and stricter, and one mask head. Where mmdet's cascade differs
from detectron2's, this one is detectron2's: see `mae_backbone.CascadeRoIHead`.
"""
_base_ = ['../_base_/vitdet_cascade.py', '../_base_/coco_lsj.py']
