"""Logging, checkpoints and environment of detection runs, which count iterations."""
_base_ = ['./runtime.py']

default_scope = 'mmdet'
# mae_backbone comes first: it installs the replacements for mmcv's compiled ops, which mmdet imports.
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.detection'])
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=5000, save_best='coco/bbox_mAP', rule='greater'),
    visualization=dict(type='DetVisualizationHook'),
    # Which classes a detector mixes up, misses, or finds in the background.
    confusion=dict(type='mae_backbone.DetectionConfusionHook'),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=False)
