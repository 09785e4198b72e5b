"""UPerNet on ViT-B as in the MAE paper: model, optimizer and 160,000 iterations (implus/mae_segmentation, mmseg)."""
_base_ = ['./runtime_mmseg.py']

max_iters = 160_000
warmup_iters = 1500
window = (512, 512)  # pixels, of the crops in training
norm_cfg = dict(type='SyncBN', requires_grad=True)  # MMEngine makes it a plain BatchNorm in a single process

model = dict(
    type='mae_backbone.EncoderDecoder',
    # Images arrive as uint8 BGR. Filled up to the crop after normalization, in testing too: a side below it would leave
    # windows smaller than those of the training.
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

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor',
    # Positions do not decay, as in MAE's fine-tuning; neither do tables of relative ones, as in Swin's code.
    paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0, custom_keys={
        'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0),
        'relative_position_bias_table': dict(decay_mult=0.0)}))
auto_scale_lr = dict(base_batch_size=16, enable=True)  # 8 GPUs with 2 images each
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
