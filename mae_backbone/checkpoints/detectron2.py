"""Renames the parameters of detectron2's ViTDet detectors as mmdet names them with our backbone."""
import re

from torch import Tensor

# detectron2 (projects/ViTDet) -> here. A number after a name counts layers from 1 there, and from 0 here.
_STAGE = r'(?P<stage>\d+\.)?'  # index of the box head in a cascade
_RENAMED = [(re.compile(pattern), name) for pattern, name in (
    (r'backbone\.net\.(?P<rest>.+)', 'backbone.{rest}'),
    (r'backbone\.(?P<rest>simfp_\d\..+)', 'neck.{rest}'),
    (r'proposal_generator\.rpn_head\.conv\.conv(?P<layer>\d+)\.(?P<rest>.+)', 'rpn_head.rpn_conv.{layer}.conv.{rest}'),
    (r'proposal_generator\.rpn_head\.conv\.(?P<rest>weight|bias)', 'rpn_head.rpn_conv.{rest}'),
    (r'proposal_generator\.rpn_head\.objectness_logits\.(?P<rest>.+)', 'rpn_head.rpn_cls.{rest}'),
    (r'proposal_generator\.rpn_head\.anchor_deltas\.(?P<rest>.+)', 'rpn_head.rpn_reg.{rest}'),
    (rf'roi_heads\.box_head\.{_STAGE}conv(?P<number>\d+)\.norm\.(?P<rest>.+)',
     'roi_head.bbox_head.{stage}shared_convs.{number}.ln.{rest}'),
    (rf'roi_heads\.box_head\.{_STAGE}conv(?P<number>\d+)\.(?P<rest>weight|bias)',
     'roi_head.bbox_head.{stage}shared_convs.{number}.conv.{rest}'),
    (rf'roi_heads\.box_head\.{_STAGE}fc(?P<number>\d+)\.(?P<rest>.+)',
     'roi_head.bbox_head.{stage}shared_fcs.{number}.{rest}'),
    (rf'roi_heads\.box_predictor\.{_STAGE}cls_score\.(?P<rest>.+)', 'roi_head.bbox_head.{stage}fc_cls.{rest}'),
    (rf'roi_heads\.box_predictor\.{_STAGE}bbox_pred\.(?P<rest>.+)', 'roi_head.bbox_head.{stage}fc_reg.{rest}'),
    (r'roi_heads\.mask_head\.mask_fcn(?P<number>\d+)\.norm\.(?P<rest>.+)',
     'roi_head.mask_head.convs.{number}.ln.{rest}'),
    (r'roi_heads\.mask_head\.mask_fcn(?P<number>\d+)\.(?P<rest>weight|bias)',
     'roi_head.mask_head.convs.{number}.conv.{rest}'),
    (r'roi_heads\.mask_head\.deconv\.(?P<rest>.+)', 'roi_head.mask_head.upsample.{rest}'),
    (r'roi_heads\.mask_head\.predictor\.(?P<rest>.+)', 'roi_head.mask_head.conv_logits.{rest}'),
)]
# Buffers that are set by the config here: means and deviations of pixels, shapes of anchors.
_UNUSED = re.compile(r'pixel_(mean|std)|proposal_generator\.anchor_generator\..*')


def is_detectron2(weights: dict[str, Tensor]) -> bool:
    """Whether the weights belong to a complete detector of detectron2."""
    return any(name.startswith(('proposal_generator.', 'roi_heads.')) for name in weights)


def from_detectron2(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of a ViTDet of detectron2.

    Unknown names are not changed, so that loading them reports them. Classes, boxes and masks have the same order in
    both: background last, and four numbers of a box for each class in turn.
    """
    return {_renamed(name): tensor for name, tensor in weights.items() if not _UNUSED.fullmatch(name)}


def _renamed(name: str) -> str:
    for pattern, here in _RENAMED:
        if match := pattern.fullmatch(name):
            groups = {key: value or '' for key, value in match.groupdict().items()}
            if 'number' in groups:
                groups['number'] = str(int(groups['number']) - 1)
            return here.format(**groups)
    return name
