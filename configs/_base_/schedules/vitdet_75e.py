"""ViTDet on COCO for 75 epochs, the length of ViT-H (detectron2, projects/ViTDet)."""
_base_ = ['./vitdet_100e.py']

max_iters = 184_375 * 3 // 4
milestones = [163_889 * 3 // 4, 177_546 * 3 // 4]

param_scheduler = [
    # 187.5 iterations: in detectron2, the warm-up is a fraction of the training and is shortened with it.
    dict(type='mae_backbone.LinearWarmup', start_factor=0.001, by_epoch=False, end=250 * max_iters / 184_375),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
