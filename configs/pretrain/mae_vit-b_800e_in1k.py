"""MAE pretraining of ViT-B/16 on ImageNet-1K, 800 epochs.

Run     python tools/pretrain.py configs/pretrain/mae_vit-b_800e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/pretrain.py CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 70 h on 8 A100 with 512 images each (mmpretrain#1632: 1.0 s for 4,096 images; 313 steps an epoch)
Expect  83.3 top-1 after fine-tuning (mmpretrain, 800 epochs). Ours: not measured yet.
"""
_base_ = ['../_base_/imagenet_pretrain.py', '../_base_/runtime.py']

max_epochs = 800
warmup_epochs = 40

model = dict(
    type='mae_backbone.MAEPretrainer',
    encoder=dict(arch='base', image_size=224, patch_size=16),
    decoder_width=512, decoder_depth=8, decoder_heads=16, mask_ratio=0.75, norm_pix=True)

# Public MAE code, main_pretrain.py: biases and norms do not decay, tokens do; no clipping of gradients.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
# The lr is for 4,096 images a step: 64 GPUs with 64 each. It is scaled down with the batch that you really have.
auto_scale_lr = dict(base_batch_size=4096, enable=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
# The loss stays on the device until a line of the log is due.
default_hooks = dict(checkpoint=dict(interval=20), device_log=dict(type='mae_backbone.DeviceLogHook'),
                     bad_images=dict(type='mae_backbone.BadImagesHook'))
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=20)]
