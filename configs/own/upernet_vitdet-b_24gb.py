"""UPerNet on ViTDet-B, your own label maps, crops of 512, for a GPU with 24 GB.

Run     mae-backbone train upernet_vitdet-b_24gb --data-root DIR --amp
Weights mae_vit_base, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  no published figure. Ours: not measured yet.

A step of the optimizer sees 4 images x 4 accumulated batches = 16: 20,000 steps are 80,000 iterations.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/upernet_vitdet-b.py',
    '../_base_/datasets/folder-512x512.py',
    '../_base_/schedules/own-segmentation.py',
]

max_iters = 20_000 * 4
warmup_iters = 1500 * 4

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='mae_vit_base')),
    # `mae-backbone train` replaces the 3 with the number of classes in classes.txt.
    decode_head=dict(num_classes=3),
    auxiliary_head=dict(num_classes=3))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(accumulative_counts=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
