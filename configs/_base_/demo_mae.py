"""What the small pretraining runs of configs/demo share: a ViT of 6 blocks, a decoder of 2, AdamW."""
_base_ = ['demo_runtime.py']

model = dict(
    type='mae_backbone.MAEPretrainer',
    encoder=dict(arch=dict(width=128, depth=6, heads=4)),
    decoder_width=64, decoder_depth=2, decoder_heads=4,
    data_preprocessor=dict(type='mae_backbone.PixelPreprocessor'))
train_dataloader = dict(
    num_workers=1, persistent_workers=True,
    sampler=dict(type='mae_backbone.PretrainSampler'),
    # The last batch of an epoch is filled up with images that do not count: sets of any size work.
    batch_sampler=dict(type='mae_backbone.PretrainBatchSampler'),
    collate_fn=dict(type='mae_backbone.as_is'),
    dataset=dict(type='mae_backbone.UnlabeledImages'))
# 1e-3 for batches of 32 to 256: the 1.5e-4 * batch / 256 of the paper is made for large ViTs and long runs.
optim_wrapper = dict(
    type='mae_backbone.GuardedOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
train_cfg = dict(type='mae_backbone.PretrainLoop')
default_hooks = dict(
    device_log=dict(type='mae_backbone.DeviceLogHook'),  # the loss stays on the device until a line of the log is due
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
