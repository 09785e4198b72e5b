"""UPerNet, ViT-H/16 from MAE weights, ADE20K, crops of 640, 160,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-h_160k_ade20k-640x640.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Ours, as the paper has no segmentation with this size: learning rate and layer decay of ViT-L here, drop path of MAE's
fine-tuning (table 9), taps at the same shares of the depth. The pretraining has patches of 14 pixels, segmentation of
16: patches and positions are resized when they are loaded.
"""
_base_ = ['./upernet_vit-b_160k_ade20k-640x640.py']

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.3, out_indices=[10, 15, 20, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(embed_dim=1280),
    decode_head=dict(in_channels=[1280] * 4, channels=1280),
    auxiliary_head=dict(in_channels=1280))
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay=0.95))
