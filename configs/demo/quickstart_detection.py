"""Mask R-CNN on a 0.5 M parameter ViT: objects of 8 classes in generated scenes, a step of the quickstart.

Run     mae-backbone train quickstart_detection --data-root work_dirs/quickstart/scenes
        --pretrained MAE.pth
Data    images of `mae-backbone quickstart`: images/{train,val}/*.jpg, annotations/instances_{train,val}.json
Expect  docs/benchmarks.md
"""
_base_ = ['mask-rcnn_vit-micro_nuclei.py']

data_root = 'work_dirs/quickstart/scenes'
image_size = 64
channels = 32
max_iters = 400
warmup = 40

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[70.0, 70.0, 70.0], pad_size_divisor=8),
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=96, depth=4, heads=3), patch_size=8,
        image_size=image_size),
    neck=dict(in_channels=96, out_channels=channels, strides=(4, 8, 16)),
    rpn_head=dict(
        in_channels=channels, feat_channels=channels,
        # Objects measure 8 to 35 pixels.
        anchor_generator=dict(scales=[3], strides=[4, 8, 16])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28, featmap_strides=[4, 8]),
        bbox_head=dict(in_channels=channels, fc_out_channels=128, num_classes=8),
        mask_roi_extractor=dict(out_channels=channels, finest_scale=28, featmap_strides=[4, 8]),
        mask_head=dict(num_convs=1, in_channels=channels, conv_out_channels=channels, num_classes=8)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=20)))

metainfo = dict(
    _delete_=True,
    classes=('checked-disc', 'checked-triangle', 'dotted-cross', 'dotted-triangle', 'speckled-cross', 'speckled-star',
             'striped-disc', 'striped-star'),
    palette=[(214, 39, 40), (255, 127, 14), (148, 103, 189), (227, 119, 194), (140, 86, 75), (188, 189, 34),
             (23, 190, 207), (31, 119, 180)])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomFlip', prob=[0.3, 0.3], direction=['horizontal', 'vertical']),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/train'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, data_prefix=dict(img='images/val')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = val_evaluator
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup, end=max_iters, T_max=max_iters - warmup, by_epoch=False),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 2)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters // 5))
log_processor = dict(window_size=10)
