"""Cascade as in detectron2: averaged probabilities, divided gradients, one mask head."""
import pytest
import torch
from helpers.config_files import load
from helpers.shrink import small
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.detection.cascade import _ScaleGradient

META = {'img_shape': (64, 64), 'ori_shape': (64, 64), 'scale_factor': (1.0, 1.0), 'pad_shape': (64, 64)}


def head_of(name: str = 'cascade-mask-rcnn_vitdet-b_100e_coco') -> nn.Module:
    """A small version of the RoI head of a config."""
    model = ConfigDict(small(load(f'configs/detection/{name}.py').model.to_dict()))
    model.roi_head.update(train_cfg=model.train_cfg.rcnn, test_cfg=model.test_cfg.rcnn)
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(model.roi_head)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return head


def features() -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, 32, 16 // 2**i, 16 // 2**i) for i in range(5))


def boxes(count: int) -> Tensor:
    corners = torch.rand(count, 2) * 40
    return torch.cat([corners, corners + 8 + torch.rand(count, 2) * 14], dim=1)


@torch.no_grad()
@pytest.mark.parametrize('name', ['cascade-mask-rcnn_vitdet-b_100e_coco', 'cascade-mask-rcnn_vitdet-b_100e_lvis'])
def test_score_is_the_mean_probability_of_the_stages(name: str):
    head, x = head_of(name).eval(), features()
    rois = torch.cat([torch.tensor([0, 0, 0, 1, 1.0])[:, None], boxes(5)], dim=1)
    activation = nn.Softmax(1) if 'coco' in name else nn.Sigmoid()
    refined, scores, _ = head._refine_roi(x, rois, [META, META], [3, 2])
    probabilities, current = [], rois
    for stage in range(3):
        logits, deltas = head.bbox_head[stage](head.bbox_roi_extractor[stage](x[:4], current))
        probabilities.append(activation(logits))
        last = current
        decoded = head.bbox_head[stage].bbox_coder.decode(current[:, 1:], deltas, max_shape=(64, 64))
        current = torch.cat([rois[:, :1], decoded], dim=1)
    assert_close(torch.cat(refined), last, atol=1e-4, rtol=0)
    assert_close(activation(torch.cat(scores)), torch.stack(probabilities).mean(0), atol=1e-5, rtol=0)


def test_gradient_of_a_stage_into_the_features_is_divided():
    x = torch.randn(3, 4, requires_grad=True)
    y = _ScaleGradient.apply(x, 1 / 3)
    assert torch.equal(x, y)
    (y * torch.arange(4.0)).sum().backward()
    assert_close(x.grad, torch.arange(4.0).expand(3, 4) / 3)


def test_stages_have_equal_weights_and_only_the_first_has_a_mask_loss():
    head, truth, samples, proposals = head_of().train(), boxes(2), [], []
    for _ in range(2):
        masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, truth.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(metainfo=META)
        sample.gt_instances = InstanceData(bboxes=truth, labels=torch.tensor([3, 7]),
                                           masks=BitmapMasks(masks.numpy(), 64, 64))
        samples.append(sample)
        proposals.append(InstanceData(bboxes=torch.cat([boxes(6), truth + 1])))
    losses = head.loss(features(), proposals, samples)
    assert {name for name in losses if 'mask' in name} == {'s0.loss_mask'}
    assert {name for name in losses if 'loss' in name} == {'s0.loss_mask'} | {
        f's{i}.loss_{kind}' for i in range(3) for kind in ('cls', 'bbox')}
    assert head.stage_loss_weights == [1.0, 1.0, 1.0]
    sum(loss for name, loss in losses.items() if 'loss' in name).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_images_without_boxes_have_no_predictions():
    head, x = head_of().eval(), features()
    nothing = [InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long))
               for _ in range(2)]
    assert [len(result.masks) for result in head.predict_mask(x, [META, META], nothing)] == [0, 0]
    with torch.no_grad():
        refined, scores, _ = head._refine_roi(x, torch.cat([torch.ones(2, 1), boxes(2)], dim=1), [META, META], [0, 2])
    assert [*map(len, refined)] == [*map(len, scores)] == [0, 2]
