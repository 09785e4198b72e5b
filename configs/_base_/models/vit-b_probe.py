"""Frozen ViT-B/16 with MAE weights and a linear probe on its class token (public MAE code, main_linprobe.py)."""
_base_ = ['./vit-b_classifier.py']

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    pool='class', probe=True)
