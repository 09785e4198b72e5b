"""The reference backbone computes the same features as ours."""
from argparse import Namespace

import pytest
import torch
from torch.testing import assert_close

from mae_backbone.benchmark import backbone
from mae_backbone.benchmark.backbone import build, growth, run
from mae_backbone.benchmark.peers.registry import find_peer
from mae_backbone.benchmark.reference_attention import ReferenceAttention
from mae_backbone.core.attention import Attention


def test_reference_attention_equals_ours():
    ours, reference = (kind(24, heads=3, table_size=(4, 5)) for kind in (Attention, ReferenceAttention))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    reference.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, 20, 24)
    assert_close(reference(tokens, (4, 5)), ours(tokens, (4, 5)), atol=1e-4, rtol=1e-4)


def test_reference_backbone_has_the_same_features():
    args = Namespace(arch='tiny', device='cpu', batch=1)
    features = [build(args, 64, peer)() for peer in (None, find_peer('backbone', 'plain'))]
    assert features[0].shape == (1, 192, 4, 4)
    assert_close(features[1], features[0], atol=1e-4, rtol=1e-4)


def test_features_that_are_not_numbers_are_not_equal(monkeypatch: pytest.MonkeyPatch):
    args = Namespace(arch='tiny', device='cpu', batch=1, rounds=1, warmup=0)
    monkeypatch.setattr(backbone, 'peer_memory', lambda *_: 0)
    monkeypatch.setattr(backbone, 'peak_memory', lambda *_, **__: 2**20)
    monkeypatch.setattr(backbone, 'build', lambda *_: lambda: torch.full((1,), float('nan')))
    with pytest.raises(ValueError, match='differ by nan'):
        backbone.measure(args, 64, find_peer('backbone', 'plain'))


def test_linear_memory_has_constant_growth():
    assert growth({16: 1000, 32: 1300, 64: 2500}) == [100, 100]
    assert growth({16: 0, 32: 16}) == [16 / 3]


def test_only_ours_is_measured_if_the_reference_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    args = Namespace(arch='tiny', device='cpu', batch=1, sizes=[64], rounds=1, warmup=0, against='plain',
                     peer_root=None)
    monkeypatch.setattr(backbone, 'free_memory', lambda device: 0)
    monkeypatch.setattr(backbone, 'peak_memory', lambda *_, **__: 2**20)  # a process that imports all again
    result, text = run(args)
    assert result['baseline'] is result['ratio'] is None
    assert result['against'] == 'plain form'
    assert result['sizes'][64]['ours']['throughput'] > 0
    assert 'does not fit: it needs' in text
