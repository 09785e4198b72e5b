"""Cascade Mask R-CNN, ViTDet-B from MAE weights, COCO, 25 epochs: all of the 100 epochs, a quarter as long.

Run     python tools/train.py configs/detection/cascade-mask-rcnn_vitdet-b_25e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 25 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 297 GPU hours: .362 s an image, 12.3 GB (detectron2, projects/ViTDet) x 64 x 46,093 steps
Expect  no published figure of this recipe after 25 epochs; 54.0 box AP, 46.7 mask AP after 100 (detectron2,
        projects/ViTDet). Ours: not measured yet.
"""
_base_ = ['./cascade-mask-rcnn_vitdet-b_100e_coco.py']

max_iters = 184_375 // 4
milestones = [163_889 // 4, 177_546 // 4]
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250 + 1),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
