"""UPerNet on the simple feature pyramid of ViTDet, ViT-L/16 from MAE weights, ADE20K, crops of 512.

Run     mae-backbone train upernet_vitdet-l_160k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Ours, because no such recipe is published: backbone and pyramid of ViTDet (windows of 14 patches, four global blocks,
decomposed relative positions, levels of 256 channels from the last feature map), 512 channels in UPerNet, everything
else as in upernet_vit-l_160k_ade20k-512x512.py, so that the two are comparable. It shares its backbone with the
detectors of configs/detection.
"""
_base_ = [
    '../_base_/models/upernet_vitdet-b.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/upernet-vitdet_160k.py',
]

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.2, global_blocks=[5, 11, 17, 23],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1024))
optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay=0.95))
