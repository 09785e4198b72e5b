"""Logging, checkpoints and environment of segmentation runs, which count iterations."""
_base_ = ['./runtime.py']

default_scope = 'mmseg'
# mae_backbone comes first: it installs the replacements for mmcv's compiled ops, which mmseg imports.
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.segmentation'])
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16_000, save_best='mIoU', rule='greater'),
    visualization=dict(type='SegVisualizationHook'),
)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=False)
