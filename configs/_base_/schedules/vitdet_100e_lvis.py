"""ViTDet on LVIS v1 for 100 epochs (detectron2, projects/ViTDet/configs/LVIS)."""
_base_ = ['./vitdet_100e.py']

max_iters = 156_250  # 100 epochs * 100_000 images / 64 per step
milestones = [138_889, 150_463]

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(save_best='lvis/bbox_AP'))
