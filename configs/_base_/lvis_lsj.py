"""LVIS v1 with large-scale jitter to 1024 pixels (detectron2, projects/ViTDet/configs/LVIS)."""
image_size = (1024, 1024)

# The order of detectron2: flip, resize, crop, boxes from what is left of the masks.
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    # Crops without an object stay, as background (mmdet would draw another image).
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
lvis = dict(type='mae_backbone.LVISDataset', data_root='data/lvis_v1/', data_prefix=dict(img=''))
train_dataloader = dict(
    batch_size=4, num_workers=4, persistent_workers=True,
    # Images with classes in fewer than 1 of 1000 are repeated (LVIS paper).
    sampler=dict(type='mae_backbone.RepeatFactorSampler', threshold=0.001),
    dataset=dict(ann_file='annotations/lvis_v1_train.json', pipeline=train_pipeline,
                 filter_cfg=dict(filter_empty_gt=True, min_size=32), **lvis))
val_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='annotations/lvis_v1_val.json', pipeline=test_pipeline, test_mode=True, **lvis))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mae_backbone.LVISMetric', ann_file='data/lvis_v1/annotations/lvis_v1_val.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
custom_hooks = [dict(type='mae_backbone.ClassFrequencyHook')]  # tells the federated loss how often each class occurs
