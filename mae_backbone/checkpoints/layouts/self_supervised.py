"""Training files of DINO, MoCo v3 and I-JEPA: two encoders under timm's names."""
from collections.abc import Mapping
from typing import Any

from mae_backbone.checkpoints.layouts.layout import Layout, Names
from mae_backbone.checkpoints.layouts.rules import Rule, add_class_row, drop_class_row


class DINO(Layout):
    """facebookresearch/dino: `student` and `teacher`. The teacher is the average."""

    name, title = 'dino', 'DINO v1'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the two keys of its training files, or by its projection head."""
        return {'student', 'teacher'} <= content.keys() or any('head.last_layer.weight' in name
                                                               for name in names.outside)


class MoCo(Layout):
    """facebookresearch/moco-v3: `base_encoder` and `momentum_encoder`."""

    name, title = 'moco', 'MoCo v3'

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the prefix."""
        return names.prefix.endswith(('base_encoder.', 'momentum_encoder.'))


class IJEPA(Layout):
    """facebookresearch/ijepa: `encoder` and `target_encoder`, the average, without class token."""

    name, title = 'ijepa', 'I-JEPA'
    encoder = (Rule('pos_embed', 'pos_embed', join=add_class_row, split=drop_class_row), Rule('{rest}', '{rest}'))

    def matches(self, names: Names, content: Mapping[str, Any]) -> bool:
        """By the two keys of its training files."""
        return {'encoder', 'target_encoder'} <= content.keys()
