"""Logging, checkpoints and environment of runs that count epochs: pretraining and classification."""
default_scope = 'mmengine'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Two, because MMEngine deletes the oldest file before it writes the next: a run killed in between finds the other.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Speed, waiting for images and time to go in the log; losses, learning rate and metrics in training.png.
    throughput=dict(type='mae_backbone.ThroughputHook'),
    plots=dict(type='mae_backbone.PlotHook'),
    # A table of the classes and pictures of validation images, truth next to prediction, at each validation.
    classes=dict(type='mae_backbone.ClassTableHook'),
    pictures=dict(type='mae_backbone.ValidationPicturesHook'),
)
# `tensorboard --logdir work_dirs` shows the curves. For Weights & Biases, `pip install wandb` and add
# --cfg-options visualizer.vis_backends.1.type=WandbVisBackend
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
# Each process has its own seed. With one seed for all, every GPU would draw the same masks, crops and dropped paths.
randomness = dict(seed=0, diff_rank_seed=True)
