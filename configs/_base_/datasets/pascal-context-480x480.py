"""Pascal Context, 59 classes, crops of 480 (mmseg, configs/_base_/datasets/pascal_context_59.py)."""
_base_ = ['./segmentation-512x512.py']

data_root = 'data/VOCdevkit/VOC2010'
crop_size = (480, 480)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(520, 520), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(520, 520), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='PascalContextDataset59', data_root=data_root,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'))
train_dataloader = dict(dataset=dict(
    **dataset, pipeline=train_pipeline, ann_file='ImageSets/SegmentationContext/train.txt'))
val_dataloader = dict(dataset=dict(
    **dataset, pipeline=test_pipeline, ann_file='ImageSets/SegmentationContext/val.txt'))
test_dataloader = val_dataloader
