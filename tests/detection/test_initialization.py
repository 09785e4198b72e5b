"""Every tensor of the detectors starts as in detectron2: its kind of distribution and its deviation.

Constants of detectron2: pyramid `nn.Conv2d` and `nn.ConvTranspose2d` as PyTorch has them (modeling/backbone/vit.py);
RPN N(0, 0.01) (proposal_generator/rpn.py); convolutions of heads `c2_msra_fill`, that is Kaiming normal over the
outputs, and linear layers `c2_xavier_fill`, that is uniform with variance 1 / inputs (roi_heads/box_head.py); box
predictor N(0, 0.01) and N(0, 0.001) (roi_heads/fast_rcnn.py); mask predictor N(0, 0.001) (roi_heads/mask_head.py).
"""
import math
import re
from collections.abc import Callable

import pytest
import torch
from helpers.config_files import load
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn


def default(weight: Tensor) -> tuple[str, float]:
    """torch's initialization of convolutions; the second axis holds the inputs, of transposed ones the outputs."""
    return 'uniform', 1 / math.sqrt(3 * weight[0].numel())


def before_relu(weight: Tensor) -> tuple[str, float]:
    return 'normal', math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))


def normal(deviation: float) -> Callable[[Tensor], tuple[str, float]]:
    return lambda weight: ('normal', deviation)


WEIGHTS = {
    r'neck\.simfp_\d\.\d\.weight': default,
    r'rpn_head\..*weight': normal(0.01),
    r'roi_head\.bbox_head\.(\d\.)?shared_convs\.\d\.conv\.weight': before_relu,
    r'roi_head\.bbox_head\.(\d\.)?shared_fcs\.\d\.weight': lambda weight: ('uniform', 1 / math.sqrt(weight.shape[1])),
    r'roi_head\.bbox_head\.(\d\.)?fc_cls\.weight': normal(0.01),
    r'roi_head\.bbox_head\.(\d\.)?fc_reg\.weight': normal(0.001),
    r'roi_head\.mask_head\.convs\.\d\.conv\.weight': before_relu,
    r'roi_head\.mask_head\.upsample\.weight': before_relu,
    r'roi_head\.mask_head\.conv_logits\.weight': normal(0.001),
}


def assert_distribution(name: str, value: Tensor, kind: str, deviation: float) -> None:
    error = 5 / math.sqrt(value.numel())  # of an estimated deviation, relative: seven times its own deviation
    assert value.mean().abs() < 5 * deviation / math.sqrt(value.numel()), name
    assert value.std().item() == pytest.approx(deviation, rel=error), name
    largest = value.abs().max().item() / deviation
    assert (largest <= math.sqrt(3) + 1e-4) == (kind == 'uniform'), (name, largest)


@pytest.mark.parametrize('name', ['mask-rcnn_vitdet-b_100e_coco', 'cascade-mask-rcnn_vitdet-b_100e_coco'])
def test_every_tensor_starts_as_in_detectron2(name: str):
    torch.manual_seed(0)
    cfg = load(f'configs/detection/{name}.py').model
    cfg.rpn_head.update(train_cfg=cfg.train_cfg.rpn, test_cfg=cfg.test_cfg.rpn)
    cfg.roi_head.update(train_cfg=cfg.train_cfg.rcnn, test_cfg=cfg.test_cfg.rcnn)
    with DefaultScope.overwrite_default_scope('mmdet'):
        heads = nn.ModuleDict({part: MODELS.build(cfg[part]) for part in ('neck', 'rpn_head', 'roi_head')})
    for part in (heads['rpn_head'], heads['roi_head']):
        part.init_weights()
    counts = dict.fromkeys(WEIGHTS, 0)
    for name, layer in heads.named_modules():
        if isinstance(layer, nn.LayerNorm):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight)), name
            assert not layer.bias.any(), name
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            pattern = next(pattern for pattern in WEIGHTS if re.fullmatch(pattern, f'{name}.weight'))
            counts[pattern] += 1
            assert_distribution(name, layer.weight.detach(), *WEIGHTS[pattern](layer.weight))
            if layer.bias is not None and name.startswith('neck'):
                assert_distribution(name, layer.bias.detach(), *default(layer.weight))
            elif layer.bias is not None:
                assert not layer.bias.any(), name
        else:
            assert not list(layer.parameters(recurse=False)), name
    assert all(counts.values())
