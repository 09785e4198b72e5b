"""Mask R-CNN, ViTDet-H from MAE weights, COCO, 75 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-h_75e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 75 epochs)
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 2,700 GPU hours: 1.098 s an image, 31.5 GB (detectron2, projects/ViTDet) x 64 x 138,281 steps
Expect  56.7 box AP, 50.2 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.

The pretraining has patches of 14 pixels, detection of 16: patches and positions are resized when they are loaded. All
parameters decay, norms and positions too, as in detectron2's config of this size.
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_coco.py']

max_iters = 184_375 * 3 // 4  # 75 epochs
milestones = [163_889 * 3 // 4, 177_546 * 3 // 4]

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.5, global_blocks=[7, 15, 23, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1280))

optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, layer_decay=0.9))  # norms and positions decay too, as there
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250 + 1),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
