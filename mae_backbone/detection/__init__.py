"""Parts of detectors that mmdet lacks. They subclass mmdet's classes, so only configs of detection import this package.

`custom_imports = dict(imports=['mae_backbone', 'mae_backbone.detection'])` in a config registers them.
"""
from mae_backbone.detection import (  # noqa: F401
    box_precision,
    cascade,
    coco,
    federated,
    lvis,
    mask_head,
    preprocessor,
    tta,
)
