"""UPerNet on a 1.2 M parameter ViT with a simple feature pyramid, four times as long: street scenes in 11 classes.

Run     mae-backbone train upernet_vit-micro_2000i_camvid --data-root camvid --pretrained MAE.pth
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  52.0 mIoU from the MAE of mae_vit-micro_camvid.py, 42.5 from random weights (ours, one seed)

For your own images, replace what was measured on CamVid: see upernet_vit-micro_camvid.py.
"""
_base_ = ['./upernet_vit-micro_camvid.py']

max_iters = 2000
warmup_iters = 100

# A fifth of the learning rate of the short recipe, whose trainings end before it matters. Both starts need it.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
