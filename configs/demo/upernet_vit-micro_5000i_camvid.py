"""UPerNet on a 1.2 M parameter ViT with a simple feature pyramid, ten times as long: street scenes in 11 classes.

Run     mae-backbone train upernet_vit-micro_5000i_camvid --data-root camvid --pretrained MAE.pth --amp
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  58.9 mIoU from the MAE of mae_vit-micro_camvid.py, 55.9 from random weights (ours, one seed)

For your own images, replace what was measured on CamVid: see upernet_vit-micro_camvid.py.
"""
_base_ = ['./upernet_vit-micro_2000i_camvid.py']

max_iters = 5000
warmup_iters = 250

# The Lovasz loss is a smooth form of 1 - IoU (Berman et al., CVPR 2018).
model = dict(decode_head=dict(loss_decode=[
    dict(type='CrossEntropyLoss', loss_name='loss_ce',
         class_weight=[0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92]),
    dict(type='LovaszLoss', loss_name='loss_lovasz', per_image=False, reduction='none')]))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
