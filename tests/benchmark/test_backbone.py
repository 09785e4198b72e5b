"""The yardstick of the backbone computes what the backbone computes."""
from argparse import Namespace

import pytest
import torch
from torch.testing import assert_close

from mae_backbone.benchmark import backbone
from mae_backbone.benchmark.backbone import PlainAttention, build, growth, run
from mae_backbone.core.attention import Attention


def test_the_table_of_all_pairs_gives_what_folded_positions_give():
    ours, plain = (kind(24, heads=3, table_size=(4, 5)) for kind in (Attention, PlainAttention))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter)
    plain.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, 20, 24)
    assert_close(plain(tokens, (4, 5)), ours(tokens, (4, 5)), atol=1e-4, rtol=1e-4)


def test_both_backbones_have_the_same_features():
    args = Namespace(arch='tiny', device='cpu', batch=1)
    features = [build(args, 64, plain=plain)() for plain in (False, True)]
    assert features[0].shape == (1, 192, 4, 4)
    assert_close(features[1], features[0], atol=1e-4, rtol=1e-4)


def test_memory_that_is_linear_grows_by_the_same_for_each_patch():
    assert growth({16: 1000, 32: 1300, 64: 2500}) == [100, 100]
    assert growth({16: 0, 32: 16}) == [16 / 3]


@pytest.mark.slow
def test_where_the_plain_form_does_not_fit_ours_is_measured_alone(monkeypatch: pytest.MonkeyPatch):
    args = Namespace(arch='tiny', device='cpu', batch=1, sizes=[64], rounds=1, warmup=0)
    monkeypatch.setattr(backbone, 'memory_left', lambda device: 0)
    found, text = run(args)
    assert found['baseline'] is found['ratio'] is None
    assert found['sizes'][64]['ours']['throughput'] > 0
    assert 'does not fit: it needs' in text
