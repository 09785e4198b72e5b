"""Files of detectron2's ViTDet: a whole detector computes the same with them."""
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.config_files import load
from helpers.shrink import small
from mmengine import registry
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.checkpoints.detectron2 import from_detectron2, is_detectron2, to_detectron2
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import load_model, read_run
from mae_backbone.models.backbone import ViTBackbone

LEVELS = [(2, 32, 12, 8), (2, 32, 6, 4), (2, 32, 3, 2)]


def detector(name: str) -> nn.Module:
    """The model of a config, with the widths of the tests, in evaluation; no weight is at its start."""
    cfg = load(f'configs/detection/{name}.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = registry.MODELS.build(ConfigDict(small(cfg.model.to_dict()))).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def in_detectron2(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a model in the layout of detectron2's model zoo, written down part by part."""
    roi, rpn = model.roi_head, model.rpn_head
    parts = {'backbone.net.': model.backbone, 'proposal_generator.rpn_head.objectness_logits.': rpn.rpn_cls,
             'proposal_generator.rpn_head.anchor_deltas.': rpn.rpn_reg}
    parts |= {f'backbone.{name}.': part for name, part in model.neck.named_children() if name.startswith('simfp')}
    parts |= {f'proposal_generator.rpn_head.conv.conv{i}.': conv.conv for i, conv in enumerate(rpn.rpn_conv)}
    heads = roi.bbox_head if isinstance(roi.bbox_head, nn.ModuleList) else [roi.bbox_head]
    for k, head in enumerate(heads):
        stage = f'{k}.' if len(heads) > 1 else ''
        for i, conv in enumerate(head.shared_convs, start=1):
            parts |= {f'roi_heads.box_head.{stage}conv{i}.': conv.conv,
                      f'roi_heads.box_head.{stage}conv{i}.norm.': conv.ln}
        parts |= {f'roi_heads.box_head.{stage}fc1.': head.shared_fcs[0],
                  f'roi_heads.box_predictor.{stage}cls_score.': head.fc_cls,
                  f'roi_heads.box_predictor.{stage}bbox_pred.': head.fc_reg}
    for i, conv in enumerate(roi.mask_head.convs, start=1):
        parts |= {f'roi_heads.mask_head.mask_fcn{i}.': conv.conv, f'roi_heads.mask_head.mask_fcn{i}.norm.': conv.ln}
    parts |= {'roi_heads.mask_head.deconv.': roi.mask_head.upsample,
              'roi_heads.mask_head.predictor.': roi.mask_head.conv_logits}
    weights = {prefix + name: value.numpy() for prefix, part in parts.items()
               for name, value in part.state_dict().items()}
    return weights | {'pixel_mean': np.zeros((3, 1, 1), np.float32),
                      'proposal_generator.anchor_generator.cell_anchors.0': np.zeros((3, 4), np.float32)}


def stored(path: Path, weights: dict[str, np.ndarray], protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps({'model': weights, '__author__': 'Detectron2 Model Zoo'}, protocol=protocol))
    return path


# ---- the heads of detectron2 in plain torch, by its names

class Heads:
    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f'{name}.weight'], self.weights[f'{name}.bias'])

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f'{name}.weight']
        return F.conv2d(x, weight, self.weights.get(f'{name}.bias'), padding=weight.shape[-1] // 2)

    def conv_norm_relu(self, name: str, x: Tensor) -> Tensor:
        x = self.conv(name, x)
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
        scale, shift = (self.weights[f'{name}.norm.{part}'][:, None, None] for part in ('weight', 'bias'))
        return (x * scale + shift).relu()

    def rpn(self, x: Tensor) -> tuple[Tensor, Tensor]:
        prefix = 'proposal_generator.rpn_head.'
        for i in range(2):
            x = self.conv(f'{prefix}conv.conv{i}', x).relu()
        return self.conv(f'{prefix}objectness_logits', x), self.conv(f'{prefix}anchor_deltas', x)

    def boxes(self, x: Tensor, stage: str = '') -> tuple[Tensor, Tensor]:
        for i in range(1, 5):
            x = self.conv_norm_relu(f'roi_heads.box_head.{stage}conv{i}', x)
        x = self.linear(f'roi_heads.box_head.{stage}fc1', x.flatten(1)).relu()
        prefix = f'roi_heads.box_predictor.{stage}'
        return self.linear(f'{prefix}cls_score', x), self.linear(f'{prefix}bbox_pred', x)

    def masks(self, x: Tensor) -> Tensor:
        for i in range(1, 5):
            x = self.conv_norm_relu(f'roi_heads.mask_head.mask_fcn{i}', x)
        deconv = 'roi_heads.mask_head.deconv'
        x = F.conv_transpose2d(x, self.weights[f'{deconv}.weight'], self.weights[f'{deconv}.bias'], stride=2).relu()
        return self.conv('roi_heads.mask_head.predictor', x)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    """Within 1e-4 of the size of what is wanted."""
    assert_close(found / wanted.std(), wanted / wanted.std(), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(('name', 'protocol'), [
    ('mask-rcnn_vitdet-b_100e_coco', 2), ('mask-rcnn_vitdet-b_100e_coco', 5),
    ('cascade-mask-rcnn_vitdet-b_100e_coco', 2), ('mask-rcnn_vitdet-l-conv_100e_coco', 4)])
def test_whole_detector_equals_detectron2(name: str, protocol: int, tmp_path: Path):
    source, model = detector(name), detector(name)
    weights = in_detectron2(source)
    load_model(model, read_run(stored(tmp_path / 'model_final.pkl', weights, protocol)), 'model_final.pkl')
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    back = to_detectron2(source.state_dict())
    assert back.keys() == {key for key in weights if 'pixel_mean' not in key and 'anchor_generator' not in key}
    assert all(np.array_equal(value, weights[key]) for key, value in back.items())

    there, regions = Heads(weights), torch.randn(5, 32, 7, 7)
    maps = [torch.randn(shape) for shape in LEVELS]
    for found_scores, found_deltas, level in zip(*model.rpn_head(maps), maps, strict=True):
        scores, deltas = there.rpn(level)
        assert_near(found_scores, scores)
        assert_near(found_deltas, deltas)
    heads = model.roi_head.bbox_head
    stages = enumerate(heads) if isinstance(heads, nn.ModuleList) else [('', heads)]
    for stage, head in stages:
        for found, wanted in zip(head(regions), there.boxes(regions, f'{stage}.' if stage != '' else ''), strict=True):
            assert_near(found, wanted)
    regions = torch.randn(5, 32, 14, 14)
    assert_near(model.roi_head.mask_head(regions), there.masks(regions))


def test_backbone_and_pyramid_equal_public_vitdet(golden_vitdet: dict[str, Tensor], tmp_path: Path):
    from mae_backbone.models.pyramid import SimpleFeaturePyramid
    backbone = ViTBackbone(dict(width=32, depth=3, heads=2), image_size=64, pretrain_image_size=224, window_size=3,
                           global_blocks=[2], relative_positions=True)
    pyramid = SimpleFeaturePyramid(32, out_channels=16)
    weights = {f'backbone.{name.removeprefix("model.")}': value.numpy() for name, value in golden_vitdet.items()
               if name.startswith('model.')}
    run = read_run(stored(tmp_path / 'model_final.pkl', weights))['state_dict']
    for prefix, part in (('backbone.', backbone), ('neck.', pyramid)):
        part.load_state_dict({name.removeprefix(prefix): value for name, value in run.items()
                              if name.startswith(prefix)})
    for i, level in enumerate(pyramid(backbone(golden_vitdet['images']))):
        assert_close(level, golden_vitdet[f'p{i + 2}'], atol=1e-4, rtol=0)


def test_backbone_loads_into_another_detector(tmp_path: Path):
    source = detector('mask-rcnn_vitdet-b_100e_coco')
    path = stored(tmp_path / 'model_final.pkl', in_detectron2(source))
    model = detector('fcos_vitdet-b_25e_coco')
    load_encoder(model.backbone, path)
    assert all(torch.equal(value, source.backbone.state_dict()[key])
               for key, value in model.backbone.state_dict().items())


def test_unknown_names_stop_loading(tmp_path: Path):
    source = detector('mask-rcnn_vitdet-b_100e_coco')
    weights = in_detectron2(source) | {'roi_heads.keypoint_head.weight': np.zeros(3, np.float32)}
    del weights['roi_heads.box_predictor.bbox_pred.bias']
    with pytest.raises(CheckpointError, match=r'1 in the file, not in the model: roi_heads.keypoint_head.weight') as e:
        load_model(source, read_run(stored(tmp_path / 'model.pkl', weights)), 'model.pkl')
    assert '1 in the model, not in the file: roi_head.bbox_head.fc_reg.bias' in str(e.value)


def test_detectron2_names_are_recognized():
    assert is_detectron2({'proposal_generator.rpn_head.conv.weight': torch.zeros(1)})
    assert not is_detectron2({'rpn_head.rpn_conv.weight': torch.zeros(1)})
    assert from_detectron2({'proposal_generator.rpn_head.conv.weight': torch.zeros(1), 'pixel_std': torch.ones(3)}
                           ).keys() == {'rpn_head.rpn_conv.weight'}
