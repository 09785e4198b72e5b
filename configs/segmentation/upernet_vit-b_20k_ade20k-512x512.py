"""UPerNet, ViT-B/16 from MAE weights, ADE20K, crops of 512, 20,000 iterations: all of the 160,000, shorter.

Run     python tools/train.py configs/segmentation/upernet_vit-b_20k_ade20k-512x512.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   0.125 of those of 160,000 iterations; 9.96 GB on each of 8 GPUs with 2 images (mmseg, configs/mae)
Expect  no published figure; 48.1 mIoU after 160,000 iterations (MAE paper, table 5). Ours: not measured yet.
"""
_base_ = ['./upernet_vit-b_160k_ade20k-512x512.py']

max_iters = 20_000
warmup_iters = 1500
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
