"""Parts of detectors that mmdet lacks. They subclass mmdet's, so that only configs of detection import them.

`custom_imports = dict(imports=['mae_backbone', 'mae_backbone.detection'])` in a config registers them.
"""
from mae_backbone.detection import cascade, federated, lvis, lvis_sampler, tta  # noqa: F401
