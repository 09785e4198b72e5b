"""Linear probe of ViT-H/14 with MAE weights, ImageNet-1K, 50 epochs.

Run     mae-backbone train vit-h_linear_50e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published. An epoch is 1,281,167 forward passes.
Expect  77.2 top-1 (public MAE code, FINETUNE.md), 76.6 (MAE paper). Ours: not measured yet.
"""
_base_ = ['./vit-l_linear_50e_in1k.py']

model = dict(backbone=dict(
    arch='huge', patch_size=14, init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')))
