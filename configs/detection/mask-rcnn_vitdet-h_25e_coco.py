"""Mask R-CNN, ViTDet-H from MAE weights, COCO, 25 epochs: a quarter of the schedule of 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-h_25e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 900 GPU hours = 1.098 s per image (31.5 GB) x 64 images x 46,093 steps (detectron2, projects/ViTDet, GPU
        not named)
Expect  no published figure for 25 epochs of this recipe, 56.7 box AP and 50.2 mask AP after 75 (detectron2,
        projects/ViTDet). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-h.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vitdet_25e.py',
]

optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, layer_decay=0.9))  # norms and positions decay too
