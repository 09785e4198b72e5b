"""Small detection runs: mmdet's scope, hooks and visualizer, iterations counted."""
_base_ = ['./runtime_demo.py']

default_scope = 'mmdet'
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.detection'])
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False),
    visualization=dict(type='DetVisualizationHook'),
    # Which classes a detector mixes up, misses, or finds in the background.
    confusion=dict(type='mae_backbone.DetectionConfusionHook'))
log_processor = dict(by_epoch=False)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
