"""Fine-tuning a 0.5 M parameter ViT on a few hundred generated objects of 8 classes: a step of the quickstart.

Run     mae-backbone train quickstart_classification --data-root work_dirs/quickstart/scenes/classes
        --pretrained MAE.pth
Data    images of `mae-backbone quickstart`, or any class folders; the classes are the folders in train
Expect  docs/benchmarks.md
"""
_base_ = ['../_base_/models/vit-micro_classifier.py', '../_base_/datasets/cifar10.py', '../_base_/runtime_demo.py']

data_root = 'work_dirs/quickstart/scenes/classes'
image_size = 64
max_iters = 300
warmup = 30

model = dict(
    backbone=dict(arch=dict(width=96, depth=4, heads=3), image_size=image_size, patch_size=8), num_classes=8,
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[70.0, 70.0, 70.0]))
train_dataloader = dict(
    batch_size=32, num_workers=0, persistent_workers=False, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_root=data_root, image_size=image_size, augment=dict(scale=(0.6, 1.0), vflip=0.5)))
val_dataloader = dict(
    batch_size=50, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, image_size=image_size))
test_dataloader = val_dataloader
# No layer decay: the same recipe trains random weights, and there are only four blocks.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup, end=max_iters, T_max=max_iters - warmup, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 5)
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=max_iters // 5))
log_processor = dict(by_epoch=False, window_size=10)
