"""UPerNet on a 0.5 M parameter ViT: generated scenes in 12 kinds of stuff and objects, a step of the quickstart.

Run     mae-backbone train quickstart_segmentation --data-root work_dirs/quickstart/scenes
        --pretrained MAE.pth
Data    images of `mae-backbone quickstart`: images/{train,val}/*.jpg, segments/{train,val}/*.png, classes.txt
Expect  docs/benchmarks.md
"""
_base_ = ['upernet_vit-micro_camvid.py']

data_root = 'work_dirs/quickstart/scenes'
image_size = 64
channels = 32
max_iters = 400
warmup = 40

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[70.0, 70.0, 70.0]),
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=96, depth=4, heads=3), patch_size=8,
        image_size=image_size),
    neck=dict(in_channels=96, out_channels=channels),
    decode_head=dict(
        in_channels=[channels] * 4, channels=channels, dropout_ratio=0.0, num_classes=12,
        # A class of objects has 3 % of the pixels, a class of stuff 25 %. With equal weights, 400 iterations are too
        # few to find the objects.
        loss_decode=dict(class_weight=[2.0] + [1.0] * 3 + [5.0] * 8)))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
    dict(type='PackSegInputs'),
]
dataset = dict(
    data_root=data_root,
    metainfo=dict(
        _delete_=True,
        classes=('clutter', 'cloud', 'grass', 'water', 'checked-disc', 'checked-triangle', 'dotted-cross',
                 'dotted-triangle', 'speckled-cross', 'speckled-star', 'striped-disc', 'striped-star'),
        palette=[(128, 128, 128), (198, 219, 239), (161, 217, 155), (158, 202, 225), (214, 39, 40), (255, 127, 14),
                 (148, 103, 189), (227, 119, 194), (140, 86, 75), (188, 189, 34), (23, 190, 207), (31, 119, 180)]))
train_dataloader = dict(
    batch_size=16, num_workers=0, persistent_workers=False,
    dataset=dict(
        **dataset, data_prefix=dict(img_path='images/train', seg_map_path='segments/train'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(**dataset, data_prefix=dict(img_path='images/val', seg_map_path='segments/val')))
test_dataloader = val_dataloader
# Better than 2e-3 for both starts.
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=warmup, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 5)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters // 5))
log_processor = dict(window_size=10)
