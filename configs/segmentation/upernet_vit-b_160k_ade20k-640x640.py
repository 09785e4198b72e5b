"""UPerNet, ViT-B/16 from MAE weights, ADE20K, crops of 640, 160,000 iterations.

Run     mae-backbone train upernet_vit-b_160k_ade20k-640x640 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure; 48.1 mIoU with crops of 512 (MAE paper, table 5). Ours: not measured yet.

The sizes are as in mmseg's BEiT recipes (configs/beit, ade20k_640x640).
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/ade20k-640x640.py',
    '../_base_/schedules/upernet_160k.py',
]

crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=640),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)))
