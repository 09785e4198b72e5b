"""How segmentation runs log, save and start: iterations are counted."""
_base_ = ['./runtime.py']

default_scope = 'mmseg'
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.segmentation'])  # the op stand-ins, before mmseg
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16_000, save_best='mIoU', rule='greater'),
    visualization=dict(type='SegVisualizationHook'),
)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=False)
