"""MAE pretraining for 800 epochs: optimizer, schedule and hooks (MAE paper, table 8; facebookresearch/mae)."""
_base_ = ['../runtime.py']

# main_pretrain.py: AdamW. Biases and norms do not decay, tokens do. Gradients are not clipped.
optim_wrapper = dict(
    type='mae_backbone.GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
# PRETRAIN.md: 1.5e-4 per 256 images of the effective batch, which is 4,096 there: 64 GPUs with 64 images each. The
# rate is scaled to the batch of your run: images per process x processes x optim_wrapper.accumulative_counts.
auto_scale_lr = dict(base_batch_size=4096, enable=True)

# util/lr_sched.py: 40 epochs of linear warm-up from 0, then half a cosine to 0, updated every iteration. The cosine
# ends with the training: `--cfg-options train_cfg.max_epochs=100` needs no other change.
warmup_epochs = 40
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='mae_backbone.PretrainLoop', max_epochs=800)

# Each hook has a name, so that it can be switched off: `--cfg-options default_hooks.health=None`.
default_hooks = dict(
    checkpoint=dict(interval=5),
    # Keeps the loss on the device until a log line is due: reading it in every step would make the GPU wait.
    device_log=dict(type='mae_backbone.DeviceLogHook'),
    guard=dict(type='mae_backbone.GuardHook'),
    preemption=dict(type='mae_backbone.PreemptionHook'),
    bad_images=dict(type='mae_backbone.BadImagesHook'),
    throughput=dict(type='mae_backbone.ThroughputHook'),
    health=dict(type='mae_backbone.HealthHook', interval=10, images=1024),
    plots=dict(type='mae_backbone.PlotHook'),
)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=20)]
log_processor = dict(type='mae_backbone.PretrainLogProcessor')
