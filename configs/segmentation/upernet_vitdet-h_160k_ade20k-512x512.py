"""UPerNet on the simple feature pyramid of ViTDet, ViT-H/16 from MAE weights, ADE20K, crops of 512.

Run     mae-backbone train upernet_vitdet-h_160k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Ours, because no such recipe is published: backbone and pyramid of ViTDet (windows of 14 patches, four global blocks,
decomposed relative positions, levels of 256 channels from the last feature map), 512 channels in UPerNet, everything
else as in upernet_vit-h_160k_ade20k-512x512.py, so that the two are comparable. It shares its backbone with the
detectors of configs/detection.
"""
_base_ = [
    '../_base_/models/upernet_vitdet-b.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/upernet-vitdet_160k.py',
]

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.3, global_blocks=[7, 15, 23, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1280))
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay=0.95))
