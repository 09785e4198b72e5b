"""FCN head on the frozen ViT-H/16 of a MAE, ADE20K, crops of 512, 40,000 iterations.

Run     python tools/train.py configs/segmentation/fcn_vit-h_40k_ade20k-512x512.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   the backbone runs forwards only; not measured yet
Expect  no published figure. Ours: not measured yet.

All but the size is that of fcn_vit-b_40k_ade20k-512x512.py. The patches, of 14 pixels in pretraining, are
resized when they are loaded.
"""
_base_ = ['./fcn_vit-b_40k_ade20k-512x512.py']

model = dict(
    backbone=dict(
        arch='huge', frozen_stages=32,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    decode_head=dict(in_channels=1280))
