"""Mask R-CNN, ViT-B with an FPN as in the MAE paper (before ViTDet), COCO, 25 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vit-fpn-b_25e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 25 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 257 GPU hours (those of ViTDet-B in detectron2)
Expect  48.1 box AP, 43.2 mask AP (facebookresearch/mae#43; MIMDet: 48.0 / 43.0). Ours: not measured yet.
"""
_base_ = ['./mask-rcnn_vit-fpn-b_100e_coco.py']

max_iters = 184_375 // 4
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=461 + 1),  # .25 epochs * 118_000 / 64
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters, eta_min=0.0),
]
train_cfg = dict(max_iters=max_iters)
