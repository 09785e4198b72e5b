"""FCN head on a frozen ViT-H/16 with MAE weights, ADE20K, crops of 512, 40,000 iterations.

Run     mae-backbone train fcn_vit-h_40k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet. The backbone has no backward pass.
Expect  no published figure. Ours: not measured yet.

Everything but the size is as in fcn_vit-b_40k_ade20k-512x512.py. Patches have 14 pixels in pretraining and 16 here:
they are resized on loading.
"""
_base_ = ['./fcn_vit-b_40k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        arch='huge', frozen_stages=32,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    decode_head=dict(in_channels=1280))
