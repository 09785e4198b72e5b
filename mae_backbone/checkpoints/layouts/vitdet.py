"""Layouts of ViTDet with the names of detectron2: its model zoo, and `projects/ViTDet` of mmdet."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names


class Detectron2(Layout):
    """Backbone of ViTDet of detectron2. For the other parts of a detector see `checkpoints.detectron2`."""

    name, title = 'detectron2', 'detectron2 ViTDet'
    classifier_prefix = encoder_prefix = 'backbone.net.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the prefix ends with `backbone.net.`."""
        return names.prefix.endswith('backbone.net.')


class MmdetDetectron2(Layout):
    """ViTDet of mmdet 3, with the names of detectron2 and the prefix `backbone.`."""

    name, title = 'mmdet-vitdet', 'mmdet ViTDet'
    classifier_prefix = encoder_prefix = 'backbone.'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if there are relative positions, and parts of a detector of mmdet outside of the ViT."""
        return names.has('blocks.0.attn.rel_pos_h') and any(
            name.startswith(('rpn_head.', 'roi_head.', 'neck.', 'bbox_head.')) for name in names.outside)
