"""Peers compute what ours compute: the same loss, features and images from the same weights."""
import importlib
import json
import math
import os
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mae_backbone.benchmark import backbone, loader, step
from mae_backbone.benchmark.batches import Shape
from mae_backbone.benchmark.peers import peer as peers
from mae_backbone.benchmark.peers.detectron2_code import Detectron2
from mae_backbone.benchmark.peers.detectron2_mask_rcnn import Detectron2MaskRCNN
from mae_backbone.benchmark.peers.peer import MissingPeerError, importing_from
from mae_backbone.benchmark.peers.registry import PEERS, find_peer
from mae_backbone.benchmark.synthetic_images import write_photographs
from mae_backbone.cli.main import main
from mae_backbone.data.sampler import Draw
from mae_backbone.data.sources import open_source
from mae_backbone.utils.config_files import find_config

CHECKOUTS = 'MAE_BACKBONE_PEERS'  # environment variable: a folder with the checkouts mae/ and detectron2/
ROOT = Path(os.environ[CHECKOUTS]) if CHECKOUTS in os.environ else None
SIZE = Namespace(arch='tiny', image_size=[64], patch_size=16, mask_ratio=0.75, decoder=[32, 2, 4], compile='no',
                 device='cpu', batch=2, dtype='float32', baseline_dtype='float32')


def installed(benchmark: str, name: str):
    """The peer, or a skipped test."""
    if name in ('mae', 'detectron2') and ROOT is None:
        pytest.skip(f'{CHECKOUTS} names no folder with the checkouts mae/ and detectron2/')
    if name == 'detectron2':
        pytest.importorskip('fvcore')
    if name in ('transformers', 'lightly'):
        pytest.importorskip(name)
    return find_peer(benchmark, name, ROOT and ROOT / name)


@pytest.mark.slow
@pytest.mark.parametrize('name', PEERS['step'])
def test_mae_of_a_peer_has_our_loss_and_arithmetic(name: str):
    peer = installed('step', name)
    assert step.loss_difference(SIZE, peer) < 1e-5
    flops = [step.flops_per_image(SIZE, build) for build in (step.build_ours, partial(step.build_baseline, peer=peer))]
    assert 0.9 < flops[0] / flops[1] < 1  # the visible patches are not predicted
    sizes = [sum(map(torch.numel, step.trainable(model))) for model in (step.build_model(SIZE), peer.build(SIZE))]
    assert sizes[1] - sizes[0] in (0, 192)  # lightly has a mask token in the encoder, which is not used
    assert any(character.isdigit() for character in peer.code()) or name == 'plain'


@pytest.mark.slow
@pytest.mark.parametrize('name', PEERS['step'])
def test_mae_of_a_peer_is_trained_with_masks_of_its_own(name: str):
    peer = installed('step', name)
    model, images = peer.build(SIZE), torch.randn(2, 3, 64, 64)
    losses = torch.stack([model(images) for _ in range(4)])
    assert losses.unique().numel() > 1
    losses.mean().backward()
    assert model.decoder_embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name', PEERS['backbone'])
def test_backbone_of_a_peer_has_our_features(name: str):
    peer, args = installed('backbone', name), Namespace(arch='tiny', device='cpu', batch=1)
    features = [backbone.build(args, 96, which)() for which in (None, peer)]
    torch.testing.assert_close(features[1], features[0], atol=1e-4, rtol=1e-4)


@pytest.mark.slow  # the smallest ViT of its config is ViT-B
def test_mask_rcnn_of_detectron2_has_our_parameters_and_learns():
    peer = installed('train', 'detectron2')
    torch.manual_seed(0)
    step = peer.build(Shape(1, (128, 128), 80), torch.device('cpu'), None)
    results = [step() for _ in range(3)]
    assert set(results[0][0]) == {'forward', 'backward', 'optimizer'}
    assert all(math.isfinite(numbers['loss']) for _, numbers in results)
    assert results[-1][1]['loss'] < results[0][1]['loss']
    cfg = Config.fromfile(find_config('mask-rcnn_vitdet-b_100e_coco'))
    init_default_scope('mmdet')
    cfg.model.backbone.image_size = 128
    ours = sum(p.numel() for p in MODELS.build(cfg.model).parameters())
    assert abs(results[0][1]['parameters'] / ours - 1) < 0.01


def test_the_mask_rcnn_of_detectron2_needs_a_checkout_and_square_images(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Detectron2, 'load', lambda peer: None)
    for root in (None, tmp_path):
        with pytest.raises(MissingPeerError, match='needs --peer-root with a checkout of detectron2'):
            find_peer('train', 'detectron2', root)
    with pytest.raises(ValueError, match='--image-size 32 64: detectron2 pads to squares'):
        Detectron2MaskRCNN(tmp_path).build(Shape(1, (32, 64), 80), torch.device('cpu'), None)


@pytest.mark.parametrize('name', PEERS['loader'])
def test_loader_of_a_peer_loads_batches_of_the_same_images(name: str, tmp_path: Path):
    peer = installed('loader', name)
    write_photographs(tmp_path / 'photographs', 3)
    dataset = peer.dataset(str(tmp_path), 32)
    batch = peer.load_batch(dataset, [Draw(i, i) for i in (2, 0)])
    assert batch.shape == (2, 3, 32, 32)
    assert batch.dtype == torch.float32
    assert batch.abs().max() < 3  # normalized
    if not peer.same_crops:
        source = open_source(tmp_path)
        assert [Path(name).name for name in peer.names(dataset)] == [Path(source.name(i)).name for i in range(3)]


def test_losses_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(step, 'loss_difference', lambda *_: 0.5)
    with pytest.raises(ValueError, match=r'losses of ours and plain form .* differ by 0\.5'):
        step.measure(SIZE, find_peer('step', 'plain'))


def test_other_files_are_refused(tmp_path: Path):
    write_photographs(tmp_path / 'photographs', 2)
    peer = find_peer('loader', 'torchvision')
    peer.names = lambda dataset: ['000001.jpg', '000000.jpg']
    with pytest.raises(ValueError, match=r'image 0 is .*000000\.jpg for us and 000001\.jpg for torchvision'):
        loader.measure(tmp_path, peer, image_size=32, batch_size=2, rounds=1)


# ---- what is missing

@pytest.mark.parametrize(('argv', 'expected'), [
    (['step', '--against', 'mae'], 'needs --peer-root with a checkout of facebookresearch/mae'),
    (['step', '--against', 'mae', '--peer-root', 'here'], 'models_mae.py (given: '),
    (['step', '--against', 'lightly'], 'python -m pip install lightly'),
    (['step', '--against', 'transformers'], 'python -m pip install transformers'),
    (['loader', '--against', 'lightly'], 'python -m pip install lightly'),
    (['backbone', '--against', 'detectron2'], 'git clone https://github.com/facebookresearch/detectron2'),
    (['train', 'upernet_vit-b_160k_ade20k-512x512', '--against', 'mmseg'], 'pip install onedl-mmsegmentation'),
    (['train', 'mask-rcnn_vitdet-b_100e_coco', '--against', 'detectron2'],
     'git clone https://github.com/facebookresearch/detectron2'),
    (['loader', '--data-root', 'images', '--against', 'torchvision'], "ImageFolder takes images in class folders"),
    (['loader', '--data-root', 'a.txt', '--against', 'torchvision'], 'is no folder of images'),
])
def test_a_missing_peer_is_one_line_and_exit_code_2(argv: list[str], expected: str, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    for name in ('lightly', 'transformers', 'detectron2'):
        monkeypatch.setitem(sys.modules, name, None)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'mmseg' else find_spec(name))
    monkeypatch.chdir(tmp_path)
    write_photographs('images', 1)
    Path('a.txt').write_text('images/000000.jpg\n')
    assert main(['benchmark', *argv]) == 2
    message = capsys.readouterr().err.strip()
    assert expected in message
    assert '\n' not in message


def test_images_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match='--image-size 32 48: lightly takes square images only'):
        peers.square(Namespace(image_size=[32, 48]), 'lightly')


def test_an_old_package_is_refused(monkeypatch: pytest.MonkeyPatch):
    modules = pytest.importorskip('lightly.models.modules')
    monkeypatch.delattr(modules, 'MaskedVisionTransformerDecoderTIMM')
    with pytest.raises(MissingPeerError, match=r'needs lightly 1\.6 or later, lightly .* is installed'):
        find_peer('step', 'lightly')


def test_modules_of_a_checkout_do_not_stay(tmp_path: Path):
    (tmp_path / 'module_of_a_peer.py').write_text('value = 3\n')
    before = list(sys.path)
    with importing_from(tmp_path, forget=True):
        module = importlib.import_module('module_of_a_peer')
    assert module.value == 3
    assert 'module_of_a_peer' not in sys.modules
    assert sys.path == before


def test_tables_and_files_name_the_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                        capsys: pytest.CaptureFixture):
    monkeypatch.setattr(loader, 'peak_memory', lambda *_, **__: 2**20)  # a process that imports all again
    write_photographs(tmp_path / 'images/photographs', 4)
    assert main(['benchmark', 'loader', '--data-root', tmp_path / 'images', '--image-size', '32', '--batch', '4',
                 '--images', '4', '--rounds', '1', '--against', 'torchvision', '--json', tmp_path / 'a.json']) == 0
    assert 'ours / torchvision' in capsys.readouterr().out
    result = json.loads((tmp_path / 'a.json').read_text())
    assert result['against'] == 'torchvision'
    assert result['baseline']['settings']['code'].startswith('torchvision 0.')
    assert result['baseline']['settings']['crops'] == 'its own, of the same distribution'
