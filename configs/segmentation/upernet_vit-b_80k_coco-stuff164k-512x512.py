"""UPerNet, ViT-B/16 from MAE weights, COCO-Stuff (164,000 images, 171 classes), crops of 512, 80,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-b_80k_coco-stuff164k-512x512.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco_stuff164k/{images,annotations}/{train2017,val2017}/, label maps NAME_labelTrainIds.png
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Pipeline and iterations are those that mmseg has for this set; model and optimizer are those of ADE20K.
"""
_base_ = ['../_base_/upernet_vit-b.py', '../_base_/coco_stuff164k.py']

max_iters = 80_000
warmup_iters = 1500

model = dict(
    decode_head=dict(num_classes=171), auxiliary_head=dict(num_classes=171))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
