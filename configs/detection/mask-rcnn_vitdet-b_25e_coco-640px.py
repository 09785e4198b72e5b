"""Mask R-CNN, ViTDet-B from MAE weights, COCO at 640 pixels, 25 epochs, for one GPU with 24 GB.

Run     mae-backbone train mask-rcnn_vitdet-b_25e_coco-640px --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   118,000 x 25 images. An image of 640 pixels has (640 / 1024)^2 = 0.39 of the patches of 1024. Memory: not
        measured yet.
Expect  no published figure of this recipe. The MAE paper's detector has 48.1 / 43.2 box / mask AP after 25 epochs at
        1024 pixels (facebookresearch/mae#43), and small objects lose most at 640. Ours: not measured yet.

A step of the optimizer sees 4 images x 4 accumulated batches = 16. The recipe has a learning rate of 1e-4 for 64
images, hence 1e-4 x 16 / 64 = 2.5e-5, which `mae-backbone train` computes from `base_batch_size` and prints. An
iteration is one batch of 4: 25 epochs are 25 x 118,000 / 4 = 737,500 iterations, or 184,375 steps, the number of steps
of 100 epochs with 64. If memory runs out: halve batch_size, double accumulative_counts, and double every number of
iterations in this file.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj-640px.py',
    '../_base_/schedules/vitdet_100e.py',
]

batch_size = 4
accumulative_counts = 4
max_iters = 25 * 118_000 // batch_size
milestones = [max_iters * 8 // 9, max_iters * 26 // 27]

model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    backbone=dict(image_size=640, checkpointing=True))
train_dataloader = dict(batch_size=batch_size)
optim_wrapper = dict(accumulative_counts=accumulative_counts)
param_scheduler = [  # counted in iterations: 250 steps of warm-up are 1,000
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=250 * accumulative_counts),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=20_000)
