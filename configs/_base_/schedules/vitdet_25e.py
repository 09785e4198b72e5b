"""ViTDet on COCO for 25 epochs: the schedule of 100 epochs at a quarter of its length, ours."""
_base_ = ['./vitdet_100e.py']

max_iters = 184_375 // 4
milestones = [163_889 // 4, 177_546 // 4]

param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
