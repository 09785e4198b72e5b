"""UPerNet, ViT-L/16 from MAE weights, ADE20K, crops of 640, 160,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-l_160k_ade20k-640x640.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure; 53.6 mIoU with crops of 512 (MAE paper, table 5). Ours: not measured yet.

Ours, as no repository has this recipe: learning rate, layer decay, drop path and taps are those of mmseg's BEiT-L
(configs/beit), the rest that of ViT-B. The paper searched the learning rate for each entry.
"""
_base_ = ['./upernet_vit-b_160k_ade20k-640x640.py']

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.2, out_indices=[7, 11, 15, 23],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024))
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay=0.95))
