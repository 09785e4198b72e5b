"""UPerNet, ViT-B/16 from MAE weights, Pascal Context (59 classes), crops of 480, 80,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-b_80k_pascal-context-480x480.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext}/, ImageSets/SegmentationContext/{train,val}.txt
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Crops, windows of the test and iterations are those that mmseg has for this set; model and optimizer are those of
ADE20K.
"""
_base_ = ['../_base_/upernet_vit-b.py', '../_base_/pascal_context.py']

max_iters = 80_000
warmup_iters = 1500
crop_size = (480, 480)

model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=480),
    decode_head=dict(num_classes=59), auxiliary_head=dict(num_classes=59),
    test_cfg=dict(crop_size=crop_size, stride=(320, 320)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
