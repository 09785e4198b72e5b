"""Cascade Mask R-CNN, ViTDet-H from MAE weights, COCO, 75 epochs.

Run     mae-backbone train cascade-mask-rcnn_vitdet-h_75e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 2,800 GPU hours = 1.137 s per image (32.9 GB) x 64 images x 138,281 steps (detectron2, projects/ViTDet,
        GPU not named)
Expect  58.7 box AP, 51.0 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.

Patches have 14 pixels in pretraining and 16 here: patch and position embeddings are resized on loading. As in
detectron2's config of this size, all parameters decay, norms and positions too.
"""
_base_ = [
    '../_base_/models/cascade-mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vitdet_75e.py',
]

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.5, global_blocks=[7, 15, 23, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1280))
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, layer_decay=0.9))  # norms and positions decay too
