"""Logging, checkpoints and environment of the small runs of configs/demo, for one CPU or GPU."""
# Installs the replacements for mmcv's compiled ops before mmdet or mmseg are imported.
custom_imports = dict(imports=['mae_backbone'])
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
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0)
log_processor = dict(window_size=50)
