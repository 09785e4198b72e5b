"""Cascade Mask R-CNN, ViTDet-H from MAE weights, LVIS v1, 100 epochs.

Run     mae-backbone train cascade-mask-rcnn_vitdet-h_100e_lvis --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/lvis_v1/{train2017,val2017}/*.jpg (COCO's images), data/lvis_v1/annotations/lvis_v1_{train,val}.json
Costs   about 3,060 GPU hours = 1.100 s per image (35.5 GB) x 64 images x 156,250 steps (detectron2, projects/ViTDet,
        GPU not named)
Expect  51.5 box AP, 46.6 mask AP (detectron2, projects/ViTDet, same recipe, runs differ by 0.3). Ours: not measured
        yet.

Drop path 0.4, where COCO has 0.5. Patch and position embeddings are resized on loading. All parameters decay.
"""
_base_ = ['./cascade-mask-rcnn_vitdet-b_100e_lvis.py']

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.4, global_blocks=[7, 15, 23, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1280))
# Norms and positions decay too.
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(_delete_=True, layer_decay=0.9))
