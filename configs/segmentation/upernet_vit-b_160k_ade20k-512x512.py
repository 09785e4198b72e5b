"""UPerNet, ViT-B/16 from MAE weights, ADE20K, crops of 512, 160,000 iterations: the recipe of the MAE paper.

Run     mae-backbone train upernet_vit-b_160k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   9.96 GB on each of 8 GPUs with 2 images (mmseg, configs/mae)
Expect  48.1 mIoU (MAE paper, table 5; mmseg and implus/mae_segmentation: 48.13 and 48.15). Ours: not measured yet.

Two differences on purpose: there is no layer scale (1.0 at the start in those), and absolute positions and tables of
relative positions do not decay.
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/upernet_160k.py',
]
