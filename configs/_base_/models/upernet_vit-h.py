"""UPerNet on ViT-H/16, our own numbers: drop path of MAE's fine-tuning, output blocks at the same relative depths."""
_base_ = ['./upernet_vit-b.py']

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.3, out_indices=[10, 15, 20, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(embed_dim=1280),
    decode_head=dict(in_channels=[1280] * 4, channels=1280),
    auxiliary_head=dict(in_channels=1280))
