"""How detection runs log, save and start: iterations are counted."""
_base_ = ['./runtime.py']

default_scope = 'mmdet'
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.detection'])  # the op stand-ins, before mmdet is imported
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=5000, save_best='coco/bbox_mAP', rule='greater'),
    visualization=dict(type='DetVisualizationHook'),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=False)
