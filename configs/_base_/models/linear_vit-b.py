"""Frozen ViT-B/16 with a segmentation head on its last feature map: probes of dense features."""
_base_ = ['./upernet_vit-b.py']

model = dict(
    # As in pretraining: class token and final norm stay, no relative positions are added, no path is dropped.
    backbone=dict(
        out_indices=[-1], frozen_stages=12, final_norm=True, relative_bias=None, drop_path_rate=0.0),
    neck=None,
    decode_head=dict(
        _delete_=True, type='mae_backbone.LinearHead', in_channels=768, in_index=0, channels=768, dropout_ratio=0.0,
        num_classes=150, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=None)
