"""Linear head on the frozen ViT-L/16 of a MAE, ADE20K, crops of 512, 40,000 iterations.

Run     python tools/train.py configs/segmentation/linear_vit-l_40k_ade20k-512x512.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   the backbone runs forwards only; not measured yet
Expect  no published figure. Ours: not measured yet.

All but the size is that of linear_vit-b_40k_ade20k-512x512.py.
"""
_base_ = ['./linear_vit-b_40k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        arch='large', frozen_stages=24,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    decode_head=dict(in_channels=1024, channels=1024))
