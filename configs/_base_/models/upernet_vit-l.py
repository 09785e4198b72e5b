"""UPerNet on ViT-L/16: drop path and output blocks of mmseg's BEiT-L (configs/beit), the rest as for ViT-B."""
_base_ = ['./upernet_vit-b.py']

model = dict(
    backbone=dict(
        arch='large', drop_path_rate=0.2, out_indices=[7, 11, 15, 23],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024))
