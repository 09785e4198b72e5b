"""Linear head on a frozen ViT-L/16 with MAE weights, ADE20K, crops of 512, 40,000 iterations.

Run     mae-backbone train linear_vit-l_40k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet. The backbone has no backward pass.
Expect  no published figure. Ours: not measured yet.

Everything but the size is as in linear_vit-b_40k_ade20k-512x512.py.
"""
_base_ = ['./linear_vit-b_40k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        arch='large', frozen_stages=24,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    decode_head=dict(in_channels=1024, channels=1024))
