"""Dense linear probe: one linear layer on the patches of a frozen ViT-B/16, ADE20K, crops of 512, 40,000 iterations.

Run     python tools/train.py configs/segmentation/dense-linear_vit-b_40k_ade20k-512x512.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Expect  no published number for a MAE is known to us. Ours: not measured yet.

Batch, iterations, optimizer and windows are those of DINOv3's linear head on ADE20K; the norm of the encoder stands
where that has a BatchNorm.
"""
_base_ = ['../_base_/ade20k.py', '../_base_/runtime_mmseg.py']

max_iters = 40_000
warmup_iters = 1500

model = dict(
    type='mae_backbone.EncoderDecoder',
    # As in pretraining: with a class token and a norm at the end.
    backbone=dict(
        type='mae_backbone.ViTBackbone', arch='base', image_size=512, pretrain_image_size=224, patch_size=16,
        class_token=True, final_norm=True, frozen_stages=12,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    decode_head=dict(
        type='FCNHead', in_channels=768, in_index=0, channels=768, num_convs=0, concat_input=False, dropout_ratio=0.0,
        num_classes=150, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))

# frozen_stages leaves the last norm alone.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-3),
    constructor='mae_backbone.LayerDecayConstructor',
    paramwise_cfg=dict(custom_keys={'backbone.norm': dict(lr_mult=0.0, decay_mult=0.0)}))
auto_scale_lr = dict(base_batch_size=16, enable=True)  # 8 GPUs with 2 images each
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=4_000)
