"""LVIS v1 with the large-scale jitter of COCO (detectron2, projects/ViTDet/configs/LVIS)."""
_base_ = ['./coco-lsj.py']

dataset_type = 'mae_backbone.LVISDataset'
data_root = 'data/lvis_v1/'
dataset = dict(type=dataset_type, data_root=data_root, data_prefix=dict(img=''))
train_dataloader = dict(
    _delete_=True, batch_size=4, num_workers=4, persistent_workers=True,
    # Images with classes that fewer than 1 of 1000 images contain are repeated (LVIS paper).
    sampler=dict(type='mae_backbone.RepeatFactorSampler', threshold=0.001),
    dataset=dict(ann_file='annotations/lvis_v1_train.json', pipeline=_base_.train_pipeline,
                 filter_cfg=dict(filter_empty_gt=True, min_size=32), **dataset))
val_dataloader = dict(
    _delete_=True, batch_size=1, num_workers=2, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(ann_file='annotations/lvis_v1_val.json', pipeline=_base_.test_pipeline, test_mode=True, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='mae_backbone.LVISMetric', ann_file=data_root + 'annotations/lvis_v1_val.json',
    metric=['bbox', 'segm'])
test_evaluator = val_evaluator
custom_hooks = [dict(type='mae_backbone.ClassFrequencyHook')]  # gives the federated loss the frequency of each class
