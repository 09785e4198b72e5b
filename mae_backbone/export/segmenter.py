"""Segmenters: images of any size -> logits, probabilities or classes at the size of the images."""
import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.export.build import assemble, coarsest_stride, describe, patch_size
from mae_backbone.export.modules import OUTPUT_NAMES, Activation
from mae_backbone.export.options import ExportOptions
from mae_backbone.export.target import ExportError, ExportTarget
from mae_backbone.prediction.model import Segmenter
from mae_backbone.prediction.onnx.prepare import pipeline_settings

# The smallest image of the segmenter of this package, in patches; see `segmentation.encoder_decoder`.
_MIN_PATCHES = 4


def segmenter_target(model: Segmenter, options: ExportOptions) -> ExportTarget:
    """Target of a segmenter. Its head must return logits that are resized, as all heads of mmseg's FCN kind do.

    Raises:
        ExportError: the head predicts by queries, or has several stages.
    """
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    from mae_backbone.segmentation.encoder_decoder import EncoderDecoder
    net: Any = model.net
    head = net.decode_head
    if not isinstance(head, BaseDecodeHead) or any(getattr(type(head), name) is not getattr(BaseDecodeHead, name)
                                                   for name in ('predict', 'predict_by_feat')):
        raise ExportError(f'{model.path} has a {type(head).__name__}, whose predictions are computed outside of the '
                          'network: only heads that return logits are exported, take --part backbone')
    patch = patch_size(model)
    threshold = float(head.threshold) if head.out_channels == 1 else None
    slide = net.test_cfg.get('mode', 'whole') == 'slide'
    smallest = _MIN_PATCHES * patch if isinstance(net, EncoderDecoder) else patch
    settings = {'pads_to': smallest, 'align_corners': bool(net.align_corners), 'threshold': threshold, 'slide': {
        name: list(_pair(net.test_cfg[key])) for name, key in (('crop', 'crop_size'), ('stride', 'stride'))
    } if slide else None}
    dynamic = _is_dynamic(options)
    # torch.export makes a special case of one pixel of the coarsest map.
    minimum = max(smallest, 2 * coarsest_stride(model, options)) if dynamic else patch
    prepare = pipeline_settings(model.config, net.data_preprocessor)
    if options.preprocessing and dynamic and not slide and _pads_to_patches(prepare.get('pad'), patch):
        prepare['pad']['divisor'] = 1  # the graph pads after its normalization
    description = describe(model, options, task='segmentation', multiple=1 if dynamic else patch, minimum=minimum,
                           dynamic=('batch', 'size'), settings=settings, prepare=prepare)
    axes = {0: 'batch', 2: 'height', 3: 'width'} if options.activation != 'argmax' else {
        0: 'batch', 1: 'height', 2: 'width'}
    names = (OUTPUT_NAMES[options.activation],)
    core = SegmenterLogits(net, patch, pads=dynamic)
    return assemble(model, options, description, core, names, finish=Activation(options.activation, threshold),
                    output_axes={names[0]: axes})


class SegmenterLogits(nn.Module):
    """Segmenter: images (B, C, H, W) -> logits (B, num_classes, H, W).

    Args:
        net: mmseg's `EncoderDecoder`, or ours. It is copied.
        patch: side of a patch in pixels.
        pads: pad images with zeros to multiples of the patch size, on the right and at the bottom.
    """

    def __init__(self, net: Any, patch: int, *, pads: bool) -> None:
        super().__init__()
        self.backbone, self.neck, self.decode_head = (
            copy.deepcopy(module) for module in (net.backbone, net.neck if net.with_neck else nn.Identity(),
                                                 net.decode_head))
        self.patch, self.pads, self.align_corners = patch, pads, bool(net.align_corners)
        if pads:
            replace_adaptive_pooling(self)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> logits (B, num_classes, H, W)."""
        H, W = images.shape[2:]
        padded = self._pad(images) if self.pads else images
        logits = self.decode_head(self.neck(self.backbone(padded)))
        logits = F.interpolate(logits, padded.shape[2:], mode='bilinear', align_corners=self.align_corners)
        return _rows_and_columns(logits, H, W) if self.pads else logits

    def _pad(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> (B, C, H', W'). By an index: slices of unknown sizes cannot be exported."""
        (H, W), p = images.shape[2:], self.patch
        rows, columns = (torch.arange((side + p - 1) // p * p, device=images.device).clamp(max=side)
                         for side in (H, W))
        return F.pad(images, (0, 1, 0, 1))[:, :, rows][:, :, :, columns]


def _rows_and_columns(maps: Tensor, height: int, width: int) -> Tensor:
    """The upper left part (B, C, height, width) of maps."""
    rows, columns = (torch.arange(side, device=maps.device) for side in (height, width))
    return maps[:, :, rows][:, :, :, columns]


def replace_adaptive_pooling(module: nn.Module) -> None:
    """Replaces adaptive average poolings in a module, which have no operator for unknown sizes, by `MatrixPooling`."""
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            setattr(module, name, MatrixPooling(_pair(child.output_size)))
        else:
            replace_adaptive_pooling(child)


class MatrixPooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two matrix products.

    Args:
        size: (height, width) of the result.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        """maps (B, C, h, w) -> (B, C, height, width), means of cells of about equal size."""
        rows, columns = (_cells(before, after, maps) for before, after
                         in zip(maps.shape[2:], self.size, strict=True))
        return rows @ maps @ columns.mT


def _cells(before: int, after: int, like: Tensor) -> Tensor:
    """-> (after, before), the weight of each of `before` pixels in the mean of each of `after` cells."""
    cell = torch.arange(after, device=like.device)[:, None]
    pixel = torch.arange(before, device=like.device)[None]
    start, end = cell * before // after, ((cell + 1) * before + after - 1) // after
    return ((pixel >= start) & (pixel < end)).to(like.dtype) / (end - start).to(like.dtype)


def _pads_to_patches(pad: Any, patch: int) -> bool:
    """True if the padding of a data preprocessor is a part of the padding to multiples of the patch size."""
    return bool(pad) and not pad['size'] and not pad['value'] and patch % pad['divisor'] == 0


def _is_dynamic(options: ExportOptions) -> bool:
    return 'size' in options.axes(('batch', 'size'))


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
