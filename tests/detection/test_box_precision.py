"""Boxes stay float32 when feature maps are bfloat16, in training and testing, in every recipe."""
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.config_files import CONFIGS, load
from mmdet.models.dense_heads import FCOSHead as MMDetFCOSHead
from mmdet.models.dense_heads import RPNHead as MMDetRPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor as MMDetSingleRoIExtractor
from mmengine.config import ConfigDict
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.detection.box_precision import FCOSHead, RPNHead, SingleRoIExtractor

EXTRACTOR = dict(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2), out_channels=4,
                 featmap_strides=[4, 8, 16])
# A box of 601.3 pixels, which bfloat16 rounds to 600.
ROIS = torch.tensor([[0, 601.3, 590.7, 633.9, 625.2], [1, 3.3, 1.7, 300.9, 255.1], [0, 517.4, 9.1, 999.7, 777.7]])
META = dict(img_shape=(1024, 1024), ori_shape=(1024, 1024), scale_factor=(1.0, 1.0), pad_shape=(1024, 1024))


def maps(channels: int, strides: tuple[int, ...] = (4, 8, 16)) -> list[Tensor]:
    """Levels of two images of 1,024 pixels, in numbers that bfloat16 represents exactly."""
    return [torch.randn(2, channels, 1024 // stride, 1024 // stride).bfloat16().float() for stride in strides]


def seen_by_op(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The coordinates that RoI align receives from now on."""
    import mmcv._ext as ops
    seen, forward = [], ops.roi_align_forward

    def spy(features: Tensor, rois: Tensor, *args: Any, **options: Any) -> None:
        seen.append(rois)
        forward(features, rois, *args, **options)
    monkeypatch.setattr(ops, 'roi_align_forward', spy)
    return seen


def test_rois_reach_the_op_in_float32(monkeypatch: pytest.MonkeyPatch):
    feats, seen = maps(4), seen_by_op(monkeypatch)
    pooled = SingleRoIExtractor(**EXTRACTOR)([level.bfloat16() for level in feats], ROIS)
    assert pooled.dtype == torch.bfloat16
    assert all(rois.dtype == torch.float32 for rois in seen)
    assert sorted(torch.cat(seen).tolist()) == sorted(ROIS.tolist())
    expected = MMDetSingleRoIExtractor(**EXTRACTOR)(feats, ROIS)
    assert torch.equal(pooled, expected.bfloat16())
    rounded = MMDetSingleRoIExtractor(**EXTRACTOR)([level.bfloat16() for level in feats], ROIS)
    assert (rounded - expected).abs().max() > 0.5  # of mmdet's class: the test can fail


def test_gradients_equal_those_of_float32():
    feats, grads = maps(4), []
    for kind, dtype in ((SingleRoIExtractor, torch.bfloat16), (MMDetSingleRoIExtractor, torch.float32)):
        inputs = [level.to(dtype, copy=True).requires_grad_() for level in feats]
        kind(**EXTRACTOR)(inputs, ROIS).float().square().sum().backward()
        grads.append([level.grad.float() for level in inputs])
    for ours, expected in zip(*grads, strict=True):
        assert_close(ours, expected, rtol=2**-6, atol=2**-6 * float(expected.abs().max()))


@pytest.mark.parametrize('kind', [torch.float32, torch.float64])
def test_extractor_equals_mmdet_in_full_precision(kind: torch.dtype):
    feats = [level.to(kind) for level in maps(4)]
    assert torch.equal(SingleRoIExtractor(**EXTRACTOR)(feats, ROIS.to(kind)),
                       MMDetSingleRoIExtractor(**EXTRACTOR)(feats, ROIS.to(kind)))


def rpn(kind: type) -> torch.nn.Module:
    anchors = dict(type='AnchorGenerator', scales=[8], ratios=[0.7], strides=[4, 8, 16])
    return kind(
        in_channels=4, num_classes=1, anchor_generator=anchors, bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        test_cfg=ConfigDict(nms_pre=50, max_per_img=50, nms=dict(type='nms', iou_threshold=1.0), min_bbox_size=0))


def fcos(kind: type) -> torch.nn.Module:
    return kind(num_classes=3, in_channels=4, strides=[4, 8, 16], test_cfg=ConfigDict(
        nms_pre=50, max_per_img=50, nms=dict(type='nms', iou_threshold=1.0), min_bbox_size=0, score_thr=0.0))


@pytest.mark.filterwarnings('ignore:torch.meshgrid:UserWarning')  # mmdet's points
@pytest.mark.parametrize(('build', 'ours', 'theirs', 'channels'), [
    (rpn, RPNHead, MMDetRPNHead, (1, 4)), (fcos, FCOSHead, MMDetFCOSHead, (3, 4, 1))], ids=['RPN', 'FCOS'])
def test_heads_decode_boxes_in_float32(build: Any, ours: type, theirs: type, channels: tuple[int, ...]):
    outputs = [maps(number) for number in channels]
    if len(channels) == 3:
        outputs[1] = [level.abs() * 20 for level in outputs[1]]  # distances to the sides
    low = [[level.bfloat16() for level in levels] for levels in outputs]
    outputs = [[level.float() for level in levels] for levels in low]
    found, expected, rounded = (
        [result.bboxes for result in build(kind).predict_by_feat(*levels, batch_img_metas=[META, META])]
        for kind, levels in ((ours, low), (theirs, outputs), (theirs, low)))
    for boxes, same in zip(found, expected, strict=True):
        assert boxes.dtype == torch.float32
        assert torch.equal(boxes, same)
    assert any(boxes.shape != same.shape or not torch.equal(boxes.float(), same)
               for boxes, same in zip(rounded, expected, strict=True))


@pytest.mark.parametrize('file', [file for file in CONFIGS if 'rcnn' in file or 'fcos' in file
                                  or 'quickstart_detection' in file])
def test_every_recipe_keeps_boxes_in_float32(file: str):
    types = set(_types(load(file).model))
    assert not types & {'RPNHead', 'FCOSHead', 'SingleRoIExtractor'}
    assert types & {'mae_backbone.RPNHead', 'mae_backbone.FCOSHead'}
    assert ('mae_backbone.SingleRoIExtractor' in types) == ('fcos' not in file)


def _types(config: Any) -> Iterator[str]:
    """All types that a nested config names."""
    if isinstance(config, dict):
        if isinstance(config.get('type'), str):
            yield config['type']
        config = list(config.values())
    for value in config if isinstance(config, list | tuple) else ():
        yield from _types(value)
