"""UPerNet, ViT-B/16 from MAE weights, ADE20K, crops of 512, 80,000 iterations.

Run     mae-backbone train upernet_vit-b_80k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   1/2 of the time of 160,000 iterations, 9.96 GB on each of 8 GPUs with 2 images (mmseg, configs/mae)
Expect  no published figure; 48.1 mIoU after 160,000 iterations (MAE paper, table 5). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/upernet_80k.py',
]
