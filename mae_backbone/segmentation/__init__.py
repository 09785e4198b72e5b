"""Parts of segmenters that mmseg lacks. They subclass mmseg's classes, so only configs of segmentation import them.

`custom_imports = dict(imports=['mae_backbone', 'mae_backbone.segmentation'])` in a config registers them.
"""
from mae_backbone.segmentation import (  # noqa: F401
    encoder_decoder,
    iou_metric,
    linear_head,
    listed_dataset,
    load_annotations,
    preprocessor,
    tta,
    uper_head,
)
