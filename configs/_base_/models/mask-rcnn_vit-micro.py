"""Mask R-CNN on a ViT of 1.2 M parameters with a simple feature pyramid, for the small runs of configs/demo."""
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

patch_size = 8
channels = 64
norm_cfg = dict(type='mae_backbone.LayerNorm2d', eps=1e-6)

model = dict(
    data_preprocessor=dict(bgr_to_rgb=True, pad_size_divisor=patch_size * 8),  # 8: the window size in patches
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=patch_size,
        image_size=192, pretrain_image_size=64, window_size=8, global_blocks=(2, 5), relative_positions=True,
        drop_path_rate=0.1),
    neck=dict(
        _delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=128, out_channels=channels,
        input_stride=patch_size, strides=(4, 8, 16, 32), extra_levels=0, calibrate=True),
    rpn_head=dict(
        type='mae_backbone.RPNHead',  # it and the extractors keep boxes in float32 under --amp
        in_channels=channels, feat_channels=channels, anchor_generator=dict(scales=[3], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(
            type='mae_backbone.SingleRoIExtractor', out_channels=channels, finest_scale=28),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(
            type='mae_backbone.SingleRoIExtractor', out_channels=channels, finest_scale=28),
        mask_head=dict(
            num_convs=2, in_channels=channels, conv_out_channels=channels, norm_cfg=norm_cfg, num_classes=1)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=500, max_per_img=300), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500), rcnn=dict(max_per_img=400)))
