"""UPerNet on ViTDet-B, your own label maps, crops of 640, for a GPU with 80 GB.

Run     mae-backbone train upernet_vitdet-b_80gb --data-root DIR --amp
Weights mae_vit_base, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  no published figure. Ours: not measured yet.

A step sees 16 images.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/upernet_vitdet-b.py',
    '../_base_/datasets/folder-512x512.py',
    '../_base_/schedules/own-segmentation.py',
]

crop_size = (640, 640)

model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=640, init_cfg=dict(checkpoint='mae_vit_base')),
    # `mae-backbone train` replaces the 3 with the number of classes in classes.txt.
    decode_head=dict(num_classes=3),
    auxiliary_head=dict(num_classes=3),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2560, 640), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2560, 640), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
