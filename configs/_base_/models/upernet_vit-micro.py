"""UPerNet on a ViT of 1.2 M parameters with a simple feature pyramid, for the small runs of configs/demo."""
patch_size = 8
channels = 64

model = dict(
    type='mae_backbone.EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size_divisor=patch_size,
        test_cfg=dict(size_divisor=patch_size)),
    backbone=dict(
        type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=patch_size,
        image_size=192, pretrain_image_size=64, window_size=8, global_blocks=(2, 5), relative_positions=True,
        drop_path_rate=0.1),
    neck=dict(
        type='mae_backbone.SimpleFeaturePyramid', in_channels=128, out_channels=channels, input_stride=patch_size,
        strides=(4, 8, 16, 32), extra_levels=0, calibrate=True),
    decode_head=dict(
        type='UPerHead', in_channels=[channels] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
        channels=channels, dropout_ratio=0.1, num_classes=11, norm_cfg=dict(type='BN'), align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
