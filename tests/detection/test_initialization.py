"""Every tensor of the detectors starts as in detectron2: its kind of distribution and its deviation.

Constants of detectron2: pyramid `nn.Conv2d` and `nn.ConvTranspose2d` as PyTorch has them (modeling/backbone/vit.py);
RPN N(0, 0.01) (proposal_generator/rpn.py); convolutions of heads `c2_msra_fill`, that is Kaiming normal over the
outputs, and linear layers `c2_xavier_fill`, that is uniform with variance 1 / inputs (roi_heads/box_head.py); box
predictor N(0, 0.01) and N(0, 0.001) (roi_heads/fast_rcnn.py); mask predictor N(0, 0.001) (roi_heads/mask_head.py); FPN
`c2_xavier_fill` (modeling/backbone/fpn.py), of the MAE paper's detector too (MIMDet, which builds on detectron2).

FCOS and DINO are mmdet's, and are compared with what mmdet builds from its own config.
"""
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.config_files import load
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn


def default(weight: Tensor) -> tuple[str, float]:
    """torch's initialization of convolutions; the second axis holds the inputs, of transposed ones the outputs."""
    return 'uniform', 1 / math.sqrt(3 * weight[0].numel())


def before_relu(weight: Tensor) -> tuple[str, float]:
    return 'normal', math.sqrt(2 / (weight.shape[0] * weight[0, 0].numel()))


def normal(deviation: float) -> Callable[[Tensor], tuple[str, float]]:
    return lambda weight: ('normal', deviation)


FPN_WEIGHTS = {  # of `FPN` after `Rescale`, in place of the simple feature pyramid
    r'neck\.0\.levels\.\d\.\d\.weight': default,
    r'neck\.1\.(lateral|fpn)_convs\.\d\.conv\.weight': lambda weight: ('uniform', 1 / math.sqrt(weight[0].numel())),
}
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


def initialized(name: str) -> nn.ModuleDict:
    """Neck and heads of a two-stage detector, as a training starts from them."""
    torch.manual_seed(0)
    cfg = load(f'configs/detection/{name}.py').model
    cfg.rpn_head.update(train_cfg=cfg.train_cfg.rpn, test_cfg=cfg.test_cfg.rpn)
    cfg.roi_head.update(train_cfg=cfg.train_cfg.rcnn, test_cfg=cfg.test_cfg.rcnn)
    with DefaultScope.overwrite_default_scope('mmdet'):
        heads = nn.ModuleDict({part: MODELS.build(cfg[part]) for part in ('neck', 'rpn_head', 'roi_head')})
    for module in (*(heads['neck'] if isinstance(heads['neck'], nn.Sequential) else ()), heads['rpn_head'],
                   heads['roi_head']):
        if hasattr(module, 'init_weights'):
            module.init_weights()
    return heads


@pytest.mark.parametrize('name', [
    'mask-rcnn_vitdet-b_100e_coco', 'cascade-mask-rcnn_vitdet-b_100e_coco', 'mask-rcnn_vit-fpn-b_100e_coco',
    'mask-rcnn_vitdet-b-fpn_100e_coco', 'mask-rcnn_vitdet-b-fpn-last_100e_coco'])
def test_every_tensor_starts_as_in_detectron2(name: str):
    heads = initialized(name)
    weights = {key: value for key, value in WEIGHTS.items() if 'neck' not in key} | FPN_WEIGHTS if 'fpn' in name else (
        WEIGHTS)
    counts = dict.fromkeys(weights, 0)
    for name, layer in heads.named_modules():
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight)), name
            assert not layer.bias.any(), name
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            pattern = next(pattern for pattern in weights if re.fullmatch(pattern, f'{name}.weight'))
            counts[pattern] += 1
            assert_distribution(name, layer.weight.detach(), *weights[pattern](layer.weight))
            if layer.bias is not None and weights[pattern] is default:
                assert_distribution(name, layer.bias.detach(), *default(layer.weight))
            elif layer.bias is not None:
                assert not layer.bias.any(), name
        else:
            assert not list(layer.parameters(recurse=False)), name
    assert all(counts.values())


def without_backbone(cfg: Config) -> nn.Module:
    """A detector of mmdet with a small backbone, initialized; the neck is left out of comparisons, as it is ours."""
    cfg.model.backbone = dict(type='mae_backbone.ViTBackbone', arch=dict(width=32, depth=1, heads=2), image_size=64,
                              patch_size=16)
    cfg.model.neck = dict(type='mae_backbone.SimpleFeaturePyramid', in_channels=32, out_channels=256,
                          strides=(8, 16, 32, 64), extra_levels=int('FCOS' in cfg.model.type))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.mark.parametrize(('name', 'source'), [
    ('fcos_vitdet-b_25e_coco', 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'),
    ('dino_vitdet-b_12e_coco', 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py')])
def test_every_tensor_of_the_head_starts_as_in_mmdet(name: str, source: str):
    ours = dict(without_backbone(load(f'configs/detection/{name}.py')).named_parameters())
    theirs = dict(without_backbone(Config(dict(model=read_mmdet(source)))).named_parameters())
    assert ours.keys() == theirs.keys()
    compared = 0
    for key, value in ours.items():
        if key.startswith(('backbone.', 'neck.')):
            continue
        compared += 1
        assert value.shape == theirs[key].shape, key
        expected, error = theirs[key].std(correction=0).item(), 8 / math.sqrt(value.numel())
        assert value.mean().item() == pytest.approx(theirs[key].mean().item(), abs=error * expected + 1e-6), key
        assert value.std(correction=0).item() == pytest.approx(expected, rel=error, abs=1e-9), key
        if expected and value.numel() > 100:  # a normal distribution reaches beyond the deviations of a uniform one
            uniform = [tensor.abs().max().item() / expected <= math.sqrt(3) + 0.2 for tensor in (value, theirs[key])]
            assert uniform[0] == uniform[1], key
    assert compared > 20


def read_mmdet(source: str) -> dict:
    """The model of one of mmdet's configs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'config.py')
        path.write_text(f"_base_ = ['{source}']\n", encoding='utf-8')
        return Config.fromfile(path).model
