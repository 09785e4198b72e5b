"""UPerNet, ViT-B/16 from MAE weights, ADE20K, crops of 512, 160,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   9.96 GB on each of 8 GPUs with 2 images (mmseg, configs/mae)
Expect  48.1 mIoU (MAE paper, table 5; mmseg and implus/mae_segmentation: 48.13 and 48.15). Ours: not measured yet.

On purpose different from those: relative positions are ViTDet's decomposed ones, not BEiT's bias for each pair, so that
one backbone serves both tasks; there is no layer scale (1.0 at its start there); keys have a bias, as in pretraining;
absolute positions do not decay, as in MAE's fine-tuning.
"""
_base_ = ['../_base_/ade20k.py', '../_base_/runtime_mmseg.py']

max_iters = 160_000
warmup_iters = 1500
norm_cfg = dict(type='SyncBN', requires_grad=True)  # MMEngine makes it a plain BatchNorm in a single process

model = dict(
    type='mae_backbone.EncoderDecoder',
    backbone=dict(
        type='mae_backbone.ViTBackbone', arch='base', image_size=512, pretrain_image_size=224, patch_size=16,
        drop_path_rate=0.1, out_indices=[3, 5, 7, 11], relative_positions=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='UPerHead', in_channels=[768, 768, 768, 768], in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6),
        channels=768, dropout_ratio=0.1, num_classes=150, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='FCNHead', in_channels=768, in_index=2, channels=256, num_convs=1, concat_input=False, dropout_ratio=0.1,
        num_classes=150, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0, custom_keys={'pos_embed': dict(decay_mult=0.0)}))
auto_scale_lr = dict(base_batch_size=16, enable=True)  # 8 GPUs with 2 images each
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=16_000)
