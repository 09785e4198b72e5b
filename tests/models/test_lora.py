"""LoRA: the frozen ViT at first, one plain ViT after merging, and only adapters in the optimizer."""
import copy
import sys

import pytest
import torch
from mmengine.config import ConfigDict
from torch.testing import assert_close

from mae_backbone.checkpoints.adapters import merged_weights
from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.engine.layer_decay import LayerDecayConstructor
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.lora import TARGETS, lora_parameters

pytest.importorskip('peft')
TINY = dict(arch=dict(width=32, depth=3, heads=2), image_size=32, patch_size=8)
WINDOWS = dict(window_size=2, global_blocks=[2], relative_positions=True, checkpointing=2)
LORA = dict(rank=3)


def pair(**options) -> tuple[ViTBackbone, ViTBackbone]:
    """A ViT, and one with adapters and the same weights."""
    plain = ViTBackbone(**TINY, **options)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    adapted = ViTBackbone(**TINY, **options, lora=LORA)
    expected = adapted.state_dict()
    assert {name for name in expected if 'lora_' not in name} == set(plain.state_dict())
    adapted.load_state_dict({name: plain.state_dict().get(name, value) for name, value in expected.items()})
    return plain.eval(), adapted.eval()


def train_a_little(adapted: ViTBackbone) -> None:
    with torch.no_grad():
        for parameter in lora_parameters(adapted):
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize('options', [{}, WINDOWS, dict(class_token=True, final_norm=True)])
def test_outputs_are_those_of_the_frozen_vit_until_a_step_and_those_of_the_merged_one_after_it(options):
    (plain, adapted), images = pair(**options), torch.randn(2, 3, 40, 48)
    assert torch.equal(plain(images)[0], adapted(images)[0])
    train_a_little(adapted)
    assert not torch.allclose(plain(images)[0], adapted(images)[0], atol=1e-3)
    merged = merged_weights(adapted.state_dict())
    assert merged.keys() == plain.state_dict().keys()
    plain.load_state_dict(merged)
    assert_close(plain(images)[0], adapted(images)[0], atol=1e-5, rtol=1e-5)


def test_only_adapters_get_gradients_also_with_checkpointing():
    _, adapted = pair(**WINDOWS)
    train_a_little(adapted)
    adapted.train()
    adapted(torch.randn(1, 3, 32, 32))[0].square().sum().backward()
    assert {name for name, value in adapted.named_parameters() if value.grad is not None} == {
        f'blocks.{block}.{layer}.lora_{matrix}.default.weight' for block in range(3) for layer in TARGETS.values()
        for matrix in 'AB'}


def test_the_optimizer_has_the_adapters_and_what_is_outside_of_the_vit():
    model = ViTClassifier(dict(**TINY, lora=LORA), num_classes=3)
    wrapper = LayerDecayConstructor(ConfigDict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0)),
                                    dict(layer_decay=0.5))(model)
    trained = {id(parameter) for group in wrapper.optimizer.param_groups for parameter in group['params']}
    outside = [*model.head.parameters(), *model.fc_norm.parameters()]
    assert trained == {id(parameter) for parameter in [*lora_parameters(model.backbone), *outside]}
    assert sorted({group['lr'] for group in wrapper.optimizer.param_groups}) == [0.125, 0.25, 0.5, 1.0], 'by block'


def test_weights_of_an_adapted_vit_are_loaded_into_any_vit(tmp_path):
    plain, adapted = pair()
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    fresh = ViTBackbone(**TINY, lora=LORA, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth')))
    fresh.init_weights()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(fresh.eval()(images)[0], plain(images)[0])
    train_a_little(adapted)
    torch.save(adapted.state_dict(), tmp_path / 'adapted.pth')
    other = ViTBackbone(**TINY)
    load_encoder(other, tmp_path / 'adapted.pth', heads=2)
    assert_close(other.eval()(images)[0], adapted(images)[0], atol=1e-5, rtol=1e-5)
    adapted.save_pretrained(tmp_path / 'hub')
    again = ViTBackbone.from_pretrained(tmp_path / 'hub')
    assert_close(again.eval()(images)[0], adapted(images)[0], atol=1e-5, rtol=1e-5)


def test_a_copy_has_adapters_of_its_own():
    _, adapted = pair()
    other = copy.deepcopy(adapted)
    before, images = {name: value.clone() for name, value in adapted.state_dict().items()}, torch.randn(1, 3, 32, 32)
    train_a_little(other)
    assert all(torch.equal(value, before[name]) for name, value in adapted.state_dict().items())
    adapted.load_state_dict(other.state_dict())
    assert torch.equal(adapted(images)[0], other(images)[0])


def test_some_layers_only():
    adapted = ViTBackbone(**TINY, lora=dict(rank=2, targets=('qkv',)))
    assert len(lora_parameters(adapted)) == 2 * 3
    assert all('attn.qkv.' in name for name, value in adapted.named_parameters() if value.requires_grad)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(lora=dict(rank=0)), 'rank=0, expected an integer from 1'),
    (dict(lora=dict(targets=('patch_embed',))), 'expected some of qkv, proj, fc1, fc2'),
    (dict(lora=LORA, frozen_stages=1), 'leave one of the two out'),
])
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        ViTBackbone(**TINY, **options)


def test_without_peft_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(ImportError, match=r"pip install mae_backbone\[lora\]"):
        ViTBackbone(**TINY, lora=LORA)
