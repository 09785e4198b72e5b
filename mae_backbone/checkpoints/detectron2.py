"""Renames the parameters of ViTDet detectors between detectron2 and mmdet with our backbone."""
import re
from collections.abc import Iterable
from functools import cache

from torch import Tensor

# Names in detectron2 (projects/ViTDet), and in our models. `{number}` counts layers from 1 in detectron2, and from 0 in
# our models.
_NAMES = (
    ('backbone.net.{rest}', 'backbone.{rest}'),
    ('backbone.simfp_{rest}', 'neck.simfp_{rest}'),
    ('proposal_generator.rpn_head.conv.conv{layer}.{rest}', 'rpn_head.rpn_conv.{layer}.conv.{rest}'),
    ('proposal_generator.rpn_head.conv.{p}', 'rpn_head.rpn_conv.{p}'),
    ('proposal_generator.rpn_head.objectness_logits.{rest}', 'rpn_head.rpn_cls.{rest}'),
    ('proposal_generator.rpn_head.anchor_deltas.{rest}', 'rpn_head.rpn_reg.{rest}'),
    ('roi_heads.box_head.{stage}conv{number}.norm.{rest}', 'roi_head.bbox_head.{stage}shared_convs.{number}.ln.{rest}'),
    ('roi_heads.box_head.{stage}conv{number}.{p}', 'roi_head.bbox_head.{stage}shared_convs.{number}.conv.{p}'),
    ('roi_heads.box_head.{stage}fc{number}.{rest}', 'roi_head.bbox_head.{stage}shared_fcs.{number}.{rest}'),
    ('roi_heads.box_predictor.{stage}cls_score.{rest}', 'roi_head.bbox_head.{stage}fc_cls.{rest}'),
    ('roi_heads.box_predictor.{stage}bbox_pred.{rest}', 'roi_head.bbox_head.{stage}fc_reg.{rest}'),
    ('roi_heads.mask_head.mask_fcn{number}.norm.{rest}', 'roi_head.mask_head.convs.{number}.ln.{rest}'),
    ('roi_heads.mask_head.mask_fcn{number}.{p}', 'roi_head.mask_head.convs.{number}.conv.{p}'),
    ('roi_heads.mask_head.deconv.{rest}', 'roi_head.mask_head.upsample.{rest}'),
    ('roi_heads.mask_head.predictor.{rest}', 'roi_head.mask_head.conv_logits.{rest}'),
)
# Pattern of the text that a field of a template matches. `stage` is the index of the box head in a cascade.
_FIELDS = {'rest': r'(?P<rest>.+)', 'p': r'(?P<p>weight|bias)', 'layer': r'(?P<layer>\d+)',
           'number': r'(?P<number>\d+)', 'stage': r'(?P<stage>\d+\.)?'}
# Buffers that are not loaded, because our configs set their values: normalization of pixels, and shapes of anchors.
_UNUSED = re.compile(r'pixel_(mean|std)|proposal_generator\.anchor_generator\..*')


def is_detectron2(weights: dict[str, Tensor]) -> bool:
    """True if the weights belong to a complete detector of detectron2."""
    return any(name.startswith(('proposal_generator.', 'roi_heads.')) for name in weights)


def from_detectron2(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of a ViTDet of detectron2.

    Unknown names are not changed, so that they are reported when the weights are loaded. The order of the outputs is
    equal in detectron2 and mmdet: background is the last class, and the four numbers of a box are stored class by
    class.
    """
    return {_renamed(name, _NAMES, shift=-1): tensor for name, tensor in weights.items()
            if not _UNUSED.fullmatch(name)}


def to_detectron2(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of a detector of mmdet with our backbone. It is the inverse of `from_detectron2`.

    Unknown names are not changed.
    """
    inverse = tuple((ours, theirs) for theirs, ours in _NAMES)
    return {_renamed(name, inverse, shift=1): tensor for name, tensor in weights.items()}


def _renamed(name: str, names: Iterable[tuple[str, str]], *, shift: int) -> str:
    for source, target in names:
        if match := _pattern(source).fullmatch(name):
            groups = {key: value or '' for key, value in match.groupdict().items()}
            if 'number' in groups:
                groups['number'] = str(int(groups['number']) + shift)
            return target.format(**groups)
    return name


@cache
def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r'\{(\w+)\}', template)  # text and names of fields, alternately
    return re.compile(''.join(_FIELDS[piece] if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)))
