"""ViTDet under the names of detectron2: its model zoo, and `projects/ViTDet` of mmdet."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names


class Detectron2(Layout):
    """The backbone of detectron2's ViTDet. `checkpoints.detectron2` renames a whole detector."""

    name, title = 'detectron2', 'detectron2 ViTDet'
    classifier_prefix = encoder_prefix = 'backbone.net.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the prefix."""
        return names.prefix.endswith('backbone.net.')


class MmdetDetectron2(Layout):
    """ViTDet of mmdet 3: detectron2's names under `backbone.`."""

    name, title = 'mmdet-vitdet', 'mmdet ViTDet'
    classifier_prefix = encoder_prefix = 'backbone.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the relative positions, with the parts of mmdet's detectors outside."""
        return names.has('blocks.0.attn.rel_pos_h') and any(
            name.startswith(('rpn_head.', 'roi_head.', 'neck.', 'bbox_head.')) for name in names.outside)
