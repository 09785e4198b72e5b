"""UPerNet on ViTDet-B's backbone and simple feature pyramid, our own combination."""
_base_ = ['./upernet_vit-b.py']

model = dict(
    backbone=dict(
        out_indices=[-1], class_token=False, relative_bias=None, relative_positions=True, window_size=14,
        global_blocks=[2, 5, 8, 11]),
    neck=dict(
        _delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256,
        strides=(4, 8, 16, 32), extra_levels=0),
    decode_head=dict(in_channels=[256] * 4, channels=512),
    auxiliary_head=dict(in_channels=256))
