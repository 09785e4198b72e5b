"""Optimizer and hooks of the small pretraining runs of configs/demo. Recipes add the length and the schedule."""
_base_ = ['../runtime_demo.py']

# 1e-3 for batches of 32 to 256. The paper's 1.5e-4 * batch / 256 is meant for large ViTs and long runs.
optim_wrapper = dict(
    type='mae_backbone.GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
train_cfg = dict(type='mae_backbone.PretrainLoop')
default_hooks = dict(
    # Keeps the loss on the device until a log line is due: reading it in every step would make a GPU wait.
    device_log=dict(type='mae_backbone.DeviceLogHook'),
    guard=dict(type='mae_backbone.GuardHook'),
    preemption=dict(type='mae_backbone.PreemptionHook'),
    bad_images=dict(type='mae_backbone.BadImagesHook'),
    throughput=dict(type='mae_backbone.ThroughputHook'),
    health=dict(type='mae_backbone.HealthHook', interval=10, images=256),
    plots=dict(type='mae_backbone.PlotHook'),
)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=10)]
log_processor = dict(type='mae_backbone.PretrainLogProcessor')
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
