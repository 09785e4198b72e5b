"""How long runs log, save and start: pretraining and classification, whose epochs are counted."""
default_scope = 'mmengine'
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
# `tensorboard --logdir work_dirs` shows the curves. Weights & Biases in its place, after `pip install wandb`:
# --cfg-options visualizer.vis_backends.1.type=WandbVisBackend
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
# Each process draws its own masks, crops and dropped paths: with one seed for all, GPUs would repeat one another.
randomness = dict(seed=0, diff_rank_seed=True)
