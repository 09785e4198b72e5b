"""A detector of mmdet as one graph, from images to boxes, scores, labels and masks, with NMS inside."""
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.export.one_stage import OneStage
from mae_backbone.export.target import ExportError
from mae_backbone.export.two_stage import TwoStage

OUTPUTS = ('boxes', 'scores', 'labels', 'image', 'masks')
SUPPORTED = 'Faster R-CNN, Mask R-CNN, Cascade R-CNN with mae_backbone.CascadeRoIHead, and FCOS'


class ExportedDetector(nn.Module):
    """Test-time path of a detector, with the modules of the model and without mmdet's code around them.

    All images of a batch have one size. Objects of all images are in one list: `image` tells the image of each.

    Args:
        model: a detector that mmdet built; its weights are shared.

    Raises:
        ExportError: a kind of detector, or an option of its `test_cfg`, that has no such path.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        check(model)
        two_stage = hasattr(model, 'roi_head')
        self.backbone, self.neck = model.backbone, model.neck
        self.head = TwoStage(model.rpn_head, model.roi_head) if two_stage else OneStage(model.bbox_head)
        self.divisor, self.fill = model.data_preprocessor.pad_size_divisor, model.data_preprocessor.pad_value
        dense = model.rpn_head if two_stage else model.bbox_head
        coarsest = max(max(stride) for stride in dense.prior_generator.strides)
        window = max((getattr(block, 'window_size', 0) for block in getattr(model.backbone, 'blocks', ())), default=0)
        # A map of one cell, or of one window, is another graph: torch.export takes an axis of 1 for a broadcast one.
        largest = max(coarsest, window * getattr(model.backbone, 'patch_size', 1))
        self.minimum = 1 if self.divisor > largest else largest + 1
        self.output_names = OUTPUTS if two_stage and model.roi_head.with_mask else OUTPUTS[:-1]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, C, H, W), normalized as in training -> the n objects found in all of them.

        Returns:
            boxes (n, 4) in pixels, x1, y1, x2, y2; scores (n,); labels (n,) int64; image (n,) int64, the index of the
            image in the batch, ascending, and in each image by descending score; of Mask and Cascade R-CNN also masks
            (n, 28, 28), the probability that each cell of an m x m grid over the box belongs to the object.
        """
        (H, W), step = images.shape[2:], self.divisor
        # As in training: the preprocessor pads to the right and below, after normalization.
        right, below = ((side + step - 1) // step * step - side for side in (W, H))
        padded = F.pad(images, (0, right, 0, below), value=self.fill)
        return self.head(self.neck(self.backbone(padded)), (H, W))


def check(model: Any) -> None:
    """Raises ExportError if the model is not a detector that `ExportedDetector` reproduces."""
    kinds = {kind.__name__ for kind in type(model).__mro__}
    name = type(model).__name__
    if 'FCOS' in kinds:
        _check_test_cfg(model.bbox_head.test_cfg, 'test_cfg', required=('nms_pre', 'max_per_img', 'nms'))
        _check_coder(model.bbox_head, 'DistancePointBBoxCoder')
        return
    if not kinds & {'FasterRCNN', 'MaskRCNN', 'CascadeRCNN'}:
        raise ExportError(f'{name} cannot be exported, since its decoding has no form in ONNX operations here: '
                          f'{SUPPORTED} can. Export only its backbone with --part backbone')
    roi_head = model.roi_head
    heads = roi_head.bbox_head
    if isinstance(heads, nn.ModuleList) and isinstance(getattr(roi_head, 'mask_head', None), nn.ModuleList):
        raise ExportError(f'{name} with {type(roi_head).__name__}, which averages the masks of several heads, cannot '
                          "be exported: train it with roi_head=dict(type='mae_backbone.CascadeRoIHead')")
    if len({len(base) for base in model.rpn_head.prior_generator.base_anchors}) != 1:
        raise ExportError(f'{name} with another number of anchors on each level cannot be exported')
    _check_test_cfg(model.rpn_head.test_cfg, 'test_cfg.rpn', required=('nms_pre', 'max_per_img', 'nms'))
    _check_test_cfg(roi_head.test_cfg, 'test_cfg.rcnn', required=('score_thr', 'max_per_img', 'nms'))
    for head in (model.rpn_head, *(heads if isinstance(heads, nn.ModuleList) else [heads])):
        _check_coder(head, 'DeltaXYWHBBoxCoder')
    if getattr(roi_head, 'with_shared_head', False):
        raise ExportError(f'{name} with a shared head cannot be exported: only heads on the levels of a pyramid can')


def _check_test_cfg(cfg: Any, name: str, *, required: tuple[str, ...]) -> None:
    missing = [key for key in required if key not in cfg]
    if missing:
        raise ExportError(f'model.{name} lacks {", ".join(missing)}, which an exported detector needs: set it')
    for key in ('nms_pre', 'max_per_img'):
        if key in cfg and cfg[key] <= 0:
            raise ExportError(f'model.{name}.{key}={cfg[key]}: an exported detector needs a limit, set a positive '
                              'number')
    kind = cfg.nms.get('type', 'nms')
    if kind != 'nms' or cfg.nms.get('class_agnostic') or set(cfg.nms) - {'type', 'iou_threshold', 'class_agnostic',
                                                                         'split_thr'}:
        raise ExportError(f'model.{name}.nms={dict(cfg.nms)} cannot be exported: only '
                          "dict(type='nms', iou_threshold=NUMBER) can")


def _check_coder(head: Any, name: str) -> None:
    coder = head.bbox_coder
    if type(coder).__name__ != name or getattr(coder, 'add_ctr_clamp', False):
        raise ExportError(f'{type(head).__name__} with {type(coder).__name__} cannot be exported: only {name} without '
                          'add_ctr_clamp can')
