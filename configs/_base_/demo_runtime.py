"""How the small runs of configs/demo log, save and start: for a laptop's CPU, and as well for one GPU."""
custom_imports = dict(imports=['mae_backbone'])  # the op stand-ins, before mmdet or mmseg are imported
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Two: MMEngine deletes the oldest before it writes the next, and a run killed in between must find one.
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0)
log_processor = dict(window_size=50)
