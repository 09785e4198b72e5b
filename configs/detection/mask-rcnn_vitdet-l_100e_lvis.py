"""Mask R-CNN, ViTDet-L from MAE weights, LVIS v1, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-l_100e_lvis --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/lvis_v1/{train2017,val2017}/*.jpg (COCO's images), data/lvis_v1/annotations/lvis_v1_{train,val}.json
Costs   about 1,600 GPU hours = 0.576 s per image (24.7 GB) x 64 images x 156,250 steps (detectron2, projects/ViTDet,
        GPU not named)
Expect  46.1 box AP, 43.6 mask AP (detectron2, projects/ViTDet, same recipe, runs differ by 0.3). Ours: not measured
        yet.
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_lvis.py']

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.4, global_blocks=[5, 11, 17, 23],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
