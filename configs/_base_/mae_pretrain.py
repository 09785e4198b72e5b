"""The MAE recipe, ViT-B/16 for 800 epochs: what all of configs/pretrain share.

Constants are those of the paper (He et al., CVPR 2022), table 8, and of the public code (facebookresearch/mae), whose
file stands beside each.
"""
_base_ = ['./imagenet_pretrain.py', './runtime.py']

model = dict(
    type='mae_backbone.MAEPretrainer',
    encoder=dict(arch='base', image_size=224, patch_size=16),         # models_mae.py
    decoder_width=512, decoder_depth=8, decoder_heads=16,             # models_mae.py; table 1a, 1b
    masking=dict(type='mae_backbone.RandomMasking'), mask_ratio=0.75,  # main_pretrain.py; figure 5, table 1f
    norm_pix=True)                                                    # PRETRAIN.md; table 1d

# main_pretrain.py: AdamW, whose biases and norms do not decay while tokens do; gradients are not clipped.
optim_wrapper = dict(
    type='mae_backbone.GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
# PRETRAIN.md: 1.5e-4 for every 256 images of the effective batch, which is 4,096 there: 64 GPUs with 64 each. It is
# scaled with the batch that you really have: images a process x processes x optim_wrapper.accumulative_counts.
auto_scale_lr = dict(base_batch_size=4096, enable=True)

# util/lr_sched.py: 40 epochs of warm-up from 0, then half a cosine to 0, a new rate in every iteration. The cosine ends
# where the training does: `--cfg-options train_cfg.max_epochs=100` needs nothing else.
warmup_epochs = 40
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='mae_backbone.PretrainLoop', max_epochs=800)

# Each has a name, so that one can be left out: `--cfg-options default_hooks.health=None`.
default_hooks = dict(
    checkpoint=dict(interval=5),
    device_log=dict(type='mae_backbone.DeviceLogHook'),  # the loss stays on the device until a line of the log is due
    guard=dict(type='mae_backbone.GuardHook'),
    preemption=dict(type='mae_backbone.PreemptionHook'),
    bad_images=dict(type='mae_backbone.BadImagesHook'),
    throughput=dict(type='mae_backbone.ThroughputHook'),
    health=dict(type='mae_backbone.HealthHook', interval=10, images=1024),
    plots=dict(type='mae_backbone.PlotHook'),
)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=20)]
log_processor = dict(type='mae_backbone.PretrainLogProcessor')
