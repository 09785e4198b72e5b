"""Mask R-CNN, ViT-B with an FPN as in the MAE paper (before ViTDet), COCO, 50 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vit-fpn-b_50e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 50 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 515 GPU hours (those of ViTDet-B in detectron2)
Expect  50.1 box AP, 44.6 mask AP (facebookresearch/mae#43; MIMDet: 50.2 / 44.9). Ours: not measured yet.
"""
_base_ = ['./mask-rcnn_vit-fpn-b_100e_coco.py']

max_iters = 184_375 // 2
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=461 + 1),  # .25 epochs * 118_000 / 64
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters, eta_min=0.0),
]
train_cfg = dict(max_iters=max_iters)
