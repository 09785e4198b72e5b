"""Every tensor of the segmentation heads starts as in mmseg: its kind of distribution and its deviation.

Constants of the source: convolutions of heads Kaiming normal over the outputs with the gain of a ReLU (mmcv,
`ConvModule.init_weights`); the last layer N(0, 0.01) with a bias of 0 (mmseg, `BaseDecodeHead`); the neck of the MAE
paper's UPerNet as PyTorch has its layers (mmseg, `Feature2Pyramid`; implus/mae_segmentation); norms 1 and 0.
"""
import math
import re

import pytest
import torch
from helpers.config_files import load
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

import mae_backbone.segmentation  # noqa: F401  registers the heads


def torch_default(weight: Tensor) -> tuple[str, float]:
    """The second axis holds the inputs, of transposed convolutions the outputs."""
    return 'uniform', 1 / math.sqrt(3 * weight[0].numel())


def before_relu(weight: Tensor) -> tuple[str, float]:
    return 'normal', math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))


RULES = {
    r'neck\..*': torch_default,
    r'(decode|auxiliary)_head\.conv_seg': lambda weight: ('normal', 0.01),
    r'(decode|auxiliary)_head\.(?!conv_seg).*': before_relu,
}


@pytest.mark.parametrize(('name', 'used'), [
    ('upernet_vit-b_160k_ade20k-512x512', 3), ('upernet_vitdet-b_160k_ade20k-512x512', 3),
    ('upernet_vit-l_160k_ade20k-640x640', 3), ('fcn_vit-b_40k_ade20k-512x512', 2),
    ('linear_vit-b_40k_ade20k-512x512', 1)])
def test_every_tensor_starts_as_in_mmseg(name: str, used: int):
    torch.manual_seed(0)
    cfg = load(f'configs/segmentation/{name}.py').model
    with DefaultScope.overwrite_default_scope('mmseg'):
        parts = {part: MODELS.build(cfg[part]) for part in ('neck', 'decode_head', 'auxiliary_head') if cfg.get(part)}
    counts = dict.fromkeys(RULES, 0)
    for part in parts.values():
        if hasattr(part, 'init_weights'):
            part.init_weights()
    for layer_name, layer in nn.ModuleDict(parts).named_modules():
        if not list(layer.parameters(recurse=False)):
            continue
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight)), layer_name
            assert not layer.bias.any(), layer_name
            continue
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d), layer_name
        pattern = next(pattern for pattern in RULES if re.fullmatch(pattern, layer_name))
        counts[pattern] += 1
        assert_distribution(layer_name, layer.weight.detach(), *RULES[pattern](layer.weight))
        if layer.bias is not None and RULES[pattern] is torch_default:
            assert_distribution(layer_name, layer.bias.detach(), *torch_default(layer.weight))
        elif layer.bias is not None:
            assert not layer.bias.any(), layer_name
    assert sum(count > 0 for count in counts.values()) == used


def assert_distribution(name: str, value: Tensor, kind: str, deviation: float) -> None:
    error = 5 / math.sqrt(value.numel())  # of an estimated deviation, relative: seven times its own deviation
    assert value.mean().abs() < 5 * deviation / math.sqrt(value.numel()), name
    assert value.std().item() == pytest.approx(deviation, rel=error), name
    largest = value.abs().max().item() / deviation
    assert (largest <= math.sqrt(3) + 1e-4) == (kind == 'uniform'), (name, largest)
