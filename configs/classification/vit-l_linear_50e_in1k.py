"""Linear probe of ViT-L/16 with MAE weights, ImageNet-1K, 50 epochs.

Run     mae-backbone train vit-l_linear_50e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published. An epoch is 1,281,167 forward passes.
Expect  76.0 top-1 (public MAE code, FINETUNE.md), 75.8 (MAE paper). Ours: not measured yet.
"""
_base_ = ['../_base_/models/vit-b_probe.py', '../_base_/datasets/in1k.py', '../_base_/schedules/probe_50e.py']

model = dict(backbone=dict(
    arch='large', init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')))
train_dataloader = dict(batch_size=512)  # a frozen backbone stores nothing for a backward pass
