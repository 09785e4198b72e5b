"""Layouts of training checkpoints of DINO, MoCo v3 and I-JEPA, which have two encoders with the names of timm."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule, add_class_row, drop_class_row


class DINO(Layout):
    """facebookresearch/dino: `student` and `teacher`, which has the averaged weights."""

    name, title = 'dino', 'DINO v1'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the file has both keys, or the projection head of DINO."""
        return {'student', 'teacher'} <= content.keys() or any('head.last_layer.weight' in name
                                                               for name in names.outside)


class MoCo(Layout):
    """facebookresearch/moco-v3: `base_encoder` and `momentum_encoder`."""

    name, title = 'moco', 'MoCo v3'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the prefix ends with one of these names."""
        return names.prefix.endswith(('base_encoder.', 'momentum_encoder.'))


class IJEPA(Layout):
    """facebookresearch/ijepa: `encoder` and `target_encoder`, which has the averaged weights. No class token."""

    name, title = 'ijepa', 'I-JEPA'
    encoder = (Rule('pos_embed', 'pos_embed', join=add_class_row, split=drop_class_row), Rule('{rest}', '{rest}'))

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """True if the file has both keys."""
        return {'encoder', 'target_encoder'} <= content.keys()
