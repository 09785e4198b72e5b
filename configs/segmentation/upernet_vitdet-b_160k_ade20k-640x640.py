"""UPerNet on the simple feature pyramid of ViTDet, ViT-B/16 from MAE weights, ADE20K, crops of 640.

Run     mae-backbone train upernet_vitdet-b_160k_ade20k-640x640 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Ours, because no such recipe is published: backbone and pyramid of ViTDet (windows of 14 patches, four global blocks,
decomposed relative positions, levels of 256 channels from the last feature map), 512 channels in UPerNet, everything
else as in upernet_vit-b_160k_ade20k-640x640.py, so that the two are comparable. It shares its backbone with the
detectors of configs/detection.
"""
_base_ = [
    '../_base_/models/upernet_vitdet-b.py',
    '../_base_/datasets/ade20k-640x640.py',
    '../_base_/schedules/upernet-vitdet_160k.py',
]

crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=640),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)))
