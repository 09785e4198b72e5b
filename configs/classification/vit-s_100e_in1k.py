"""Fine-tuning of ViT-S/16 from MAE weights, ImageNet-1K, 100 epochs.

Run     mae-backbone train vit-s_100e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-s_800e_in1k/epoch_800.pth, or any other: --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published. A step takes about a quarter of the arithmetic of ViT-B.
Expect  no published figure. The MAE paper starts at ViT-B, whose recipe this is. Ours: not measured yet.
"""
_base_ = ['./vit-b_100e_in1k.py']

model = dict(backbone=dict(
    arch='small', init_cfg=dict(checkpoint='work_dirs/mae_vit-s_800e_in1k/epoch_800.pth')))
