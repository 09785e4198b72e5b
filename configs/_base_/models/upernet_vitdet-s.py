"""UPerNet on ViTDet-S from public weights of DINO, our own combination."""
_base_ = ['./upernet_vitdet-b.py']

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='dino_vits16')), neck=dict(in_channels=384))
