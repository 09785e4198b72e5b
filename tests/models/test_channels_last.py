"""Feature maps in the order of the tokens: the same outputs and gradients, without a copy."""
import pytest
import torch
from helpers.config_files import load
from helpers.shrink import small
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.benchmark.batches import Shape, synthetic_batch
from mae_backbone.core import vit
from mae_backbone.core.vit import ViT


@pytest.mark.parametrize('class_token', [True, False])
def test_maps_are_views_of_tokens_in_channels_last_order(class_token: bool, monkeypatch: pytest.MonkeyPatch):
    options = dict(arch=dict(width=16, depth=1, heads=2), image_size=32, patch_size=8, class_token=class_token)
    torch.manual_seed(0)
    model, images = ViT(**options, channels_last=True), torch.rand(2, 3, 32, 32)
    (plain,) = model.feature_maps(images)
    assert plain.is_contiguous(), 'on a CPU the option has no effect'
    monkeypatch.setattr(vit, 'prefers_channels_last', lambda maps: True)
    (maps,) = model.feature_maps(images)
    assert torch.equal(maps, plain)
    assert maps.stride(1) == 1
    assert maps._base is not None


def losses_and_gradients(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    torch.manual_seed(1)
    data = model.data_preprocessor(batch, True)
    loss, values = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {name: value.detach() for name, value in values.items()} | found


@pytest.mark.parametrize(('file', 'scope'), [
    ('configs/detection/mask-rcnn_vitdet-b_100e_coco.py', 'mmdet'),
    ('configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py', 'mmseg')])
def test_losses_and_gradients_of_recipes_are_equal(file: str, scope: str, monkeypatch: pytest.MonkeyPatch):
    import importlib
    importlib.import_module(f'mae_backbone.{"detection" if scope == "mmdet" else "segmentation"}')
    config = ConfigDict(small(load(file).model.to_dict()))
    config.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(config).train()
    model.init_weights()
    batch = synthetic_batch(model, Shape(2, (64, 64), 3))
    plain = losses_and_gradients(model, batch)
    monkeypatch.setattr(vit, 'prefers_channels_last', lambda maps: True)
    model.backbone.channels_last = True
    found = losses_and_gradients(model, batch)
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')
