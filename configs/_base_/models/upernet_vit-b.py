"""UPerNet on ViT-B/16 as in the MAE paper (implus/mae_segmentation configs/mae; mmseg configs/mae)."""
window = (512, 512)  # pixels: the crops of training
norm_cfg = dict(type='SyncBN', requires_grad=True)  # MMEngine builds a plain BatchNorm in a single process

model = dict(
    type='mae_backbone.EncoderDecoder',
    # Images arrive as uint8 BGR. They are padded to the crop size after normalization, in testing too: a shorter side
    # would give the model smaller windows than in training.
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=window, test_cfg=dict(size=window)),
    backbone=dict(
        type='mae_backbone.ViTBackbone', arch='base', image_size=512, pretrain_image_size=224, patch_size=16,
        drop_path_rate=0.1, out_indices=[3, 5, 7, 11], class_token=True, relative_bias='block',
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='mae_backbone.UPerHead', in_channels=[768, 768, 768, 768], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
        channels=768, dropout_ratio=0.1, num_classes=150, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead', in_channels=768, in_index=2, channels=256, num_convs=1, concat_input=False, dropout_ratio=0.1,
        num_classes=150, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=window, stride=(341, 341)))
