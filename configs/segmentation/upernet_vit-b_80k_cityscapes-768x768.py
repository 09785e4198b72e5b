"""UPerNet, ViT-B/16 from MAE weights, Cityscapes, crops of 768, 80,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-b_80k_cityscapes-768x768.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/cityscapes/{leftImg8bit,gtFine}/{train,val}/CITY/, with the *_labelTrainIds.png of cityscapesscripts
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Crops, windows of the test and iterations are those of mmseg's SETR (configs/setr); model and optimizer are those
of ADE20K.
"""
_base_ = ['../_base_/upernet_vit-b.py', '../_base_/cityscapes.py']

max_iters = 80_000
warmup_iters = 1500
crop_size = (768, 768)

model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=768),
    decode_head=dict(num_classes=19), auxiliary_head=dict(num_classes=19),
    test_cfg=dict(crop_size=crop_size, stride=(512, 512)))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
