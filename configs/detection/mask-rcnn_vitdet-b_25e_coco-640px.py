"""Mask R-CNN, ViTDet-B from MAE weights, COCO at 640 pixels, 25 epochs, for one GPU with 24 GB.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-b_25e_coco-640px.py --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   118,000 x 25 images; 640 pixels have (640 / 1024)^2 = .39 of the patches of 1024. Memory: not measured yet
Expect  no published figure of this recipe; the MAE paper's detector has 48.1 / 43.2 box / mask AP after 25 epochs of
        1024 pixels (facebookresearch/mae#43), and small objects lose most at 640. Ours: not measured yet.

The sums. A step of the optimizer sees 4 images x 4 accumulated = 16; the recipe has lr 1e-4 for 64, so that
1e-4 x 16 / 64 = 2.5e-5, which tools/train.py computes from `base_batch_size` and prints. An iteration is one batch
of 4: 25 epochs are 25 x 118,000 / 4 = 737,500 iterations, or 184,375 steps, as many as those of 100 epochs with 64.
Out of memory: halve batch_size, double accumulative_counts, and double all that counts iterations here.
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_coco.py']

batch_size = 4
accumulated = 4
max_iters = 25 * 118_000 // batch_size
milestones = [max_iters * 8 // 9, max_iters * 26 // 27]
image_size = (640, 640)

model = dict(
    data_preprocessor=dict(pad_size_divisor=640),
    backbone=dict(image_size=640, checkpointing=True))

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=batch_size, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(accumulative_counts=accumulated)
param_scheduler = [  # counted in iterations: 250 steps of warm-up are 1000
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250 * accumulated + 1),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters, val_interval=20_000)
