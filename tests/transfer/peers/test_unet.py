"""The U-Net: the evaluator gives a perfect model 100, and its package is optional."""
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.peer_data import SEGMENTATION, ReadingSegmenter, peer_spec, ticking, write_readable_maps
from torch import nn

from mae_backbone.transfer.peers.unet import resnet18_unet, train_segmenter


def small(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, num_classes, 1))


def test_a_perfect_model_has_100_percent(tmp_path):
    spec = peer_spec(SEGMENTATION, write_readable_maps(tmp_path / 'data'))
    found = train_segmenter(spec, clock=ticking(), build=ReadingSegmenter, batch_size=2)
    assert (found['values'], found['steps'], found['cpu_minutes']) == ({'mIoU': 100.0}, 6, 0.05)
    assert found['curves'] == {'mIoU': [[2, 0.0167, 100.0], [4, 0.0333, 100.0], [6, 0.05, 100.0]]}


def test_training_helps_and_the_same_seed_gives_the_same_result(tmp_path):
    root = write_readable_maps(tmp_path / 'data')
    found = [train_segmenter(peer_spec(SEGMENTATION, root, minutes=0.3, seed=seed, amp=True), clock=ticking(),
                             build=small, batch_size=2, lr=0.03) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0]['values']['mIoU'] > 40, 'one label for all pixels has less than 15'


def test_no_weights_are_downloaded(monkeypatch: pytest.MonkeyPatch):
    package = SimpleNamespace(Unet=lambda *args, **options: (args, options))
    monkeypatch.setitem(sys.modules, 'segmentation_models_pytorch', package)
    assert resnet18_unet(3) == (('resnet18',), dict(encoder_weights=None, classes=3))


def test_the_unet_of_the_package_has_logits_in_the_size_of_the_image():
    pytest.importorskip('segmentation_models_pytorch')
    with torch.no_grad():
        assert resnet18_unet(3).eval()(torch.zeros(1, 3, 32, 64)).shape == (1, 3, 32, 64)
