"""`--freeze` and `--lora`: what is trained, resumed, published, tested and predicted."""
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import refused, run_command
from helpers.own_sets import write_classes
from mmengine.config import Config

import mae_backbone
from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.cli.trained_part import set_trained_part
from mae_backbone.core.vit import ViT

CONFIG = 'vit-micro_cpu'
MODEL = ['model.backbone.image_size=16', 'model.backbone.arch.depth=2', 'model.backbone.arch.width=32']


def loaders(*splits: str) -> list[str]:
    return [f'{split}_dataloader.{key}' for split in splits
            for key in ('num_workers=0', 'persistent_workers=False', 'batch_size=4', 'dataset.image_size=16')]


SMALL = loaders('train', 'val') + MODEL


def classifier(**options) -> Config:
    return Config(dict(model=dict(type='mae_backbone.ViTClassifier', num_classes=2, backbone=dict(arch='tiny')
                                  ) | options))


def test_settings_of_a_classifier_and_of_a_detector():
    cfg = classifier(tuned_blocks=2)
    set_trained_part(cfg, freeze=5, lora=None)
    assert cfg.model.tuned_blocks == 7
    set_trained_part(cfg, freeze='all', lora=None)
    assert cfg.model.tuned_blocks == 0
    set_trained_part(cfg, freeze=None, lora=8)
    assert (cfg.model.backbone.lora, 'tuned_blocks' in cfg.model) == (dict(rank=8), False)
    detector = Config(dict(model=dict(type='MaskRCNN', backbone=dict(
        type='mae_backbone.ViTBackbone', arch='small', lora=dict(rank=2)))))
    set_trained_part(detector, freeze='all', lora=None)
    assert detector.model.backbone == dict(type='mae_backbone.ViTBackbone', arch='small', frozen_stages=12)


@pytest.mark.parametrize(('cfg', 'options', 'message'), [
    (classifier(), dict(freeze=13, lora=None), 'the encoder has 12 blocks'),
    (classifier(probe=True), dict(freeze=None, lora=2), 'trains only the head'),
    (classifier(backbone=dict(type='mae_backbone.TimmViT')), dict(freeze=None, lora=2), 'has a model of timm'),
])
def test_what_does_not_fit_is_refused(cfg, options, message):
    with pytest.raises(ValueError, match=message):
        set_trained_part(cfg, **options)


def write_encoder(path: Path) -> Path:
    torch.save(ViT(dict(width=32, depth=2, heads=4), image_size=16, patch_size=8).state_dict(), path)
    return path


@pytest.mark.slow  # peft imports transformers; three trainings, three tests, 15 s
def test_lora_from_training_to_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip('peft')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write_classes(tmp_path / 'data', train=4, val=2)
    encoder = write_encoder(tmp_path / 'encoder.pth')
    # An average of the weights, as planned recipes for GPUs have it.
    average = ['custom_hooks.0.type=EMAHook', 'custom_hooks.0.momentum=0.5']

    def train(work_dir: str, *more: object) -> dict:
        printed = run_command('train', CONFIG, '--data-root', 'data', '--pretrained', encoder, '--weights-heads', '4',
                              '--lora', '2', '--iters', '4', '--work-dir', work_dir, *more, '--cfg-options', *SMALL,
                              'default_hooks.checkpoint.interval=2', *average)
        trained = float(printed.split(' M of them trained')[0].split()[-1])
        assert trained < 0.01, printed
        return read_run(tmp_path / work_dir / 'iter_4.pth')
    whole = train('whole')
    resumed = train('resumed', '--resume', 'whole/iter_2.pth')
    for key in ('state_dict', 'ema_state_dict'):
        assert whole[key].keys() == resumed[key].keys()
        assert all(torch.equal(value, resumed[key][name]) for name, value in whole[key].items()), key
    said = refused('train', CONFIG, '--data-root', 'data', '--resume', 'whole/iter_2.pth', '--work-dir', 'other',
                   '--cfg-options', *SMALL)
    assert 'parameters in' in said, 'a resumed run has the adapters of its start'
    before = torch.load(encoder, weights_only=True)
    weights = whole['ema_state_dict']  # those that were trained: the average is in `state_dict`
    assert torch.equal(weights['module.backbone.blocks.0.attn.qkv.weight'], before['blocks.0.attn.qkv.weight'])
    assert weights['module.backbone.blocks.0.attn.qkv.lora_B.weight'].abs().max() > 0

    checkpoint = tmp_path / 'whole/iter_4.pth'
    run_command('publish', checkpoint, 'out.safetensors')
    monkeypatch.setitem(sys.modules, 'peft', None)  # only the training needs it
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    ours, public = (mae_backbone.load(path) for path in (checkpoint, 'out.safetensors'))
    assert not [name for name in public.net.state_dict() if 'lora' in name]
    assert ours.predict(image).scores == pytest.approx(public.predict(image).scores, abs=1e-6)
    tested = ['--data-root', 'data', '--cfg-options', *loaders('test')]
    printed = [run_command('test', path, *tested) for path in (checkpoint, 'out.safetensors')]
    # The config of the training has adapters, and a hook that keeps a copy of the weights.
    printed.append(run_command('test', CONFIG, checkpoint, *tested, *MODEL, 'model.backbone.lora.rank=2', *average))
    results = [[line for line in text.splitlines() if line.startswith('accuracy/')] for text in printed]
    assert results[0]
    assert results[0] == results[1] == results[2]
    run_command('predict', checkpoint, 'data/val', '-o', 'predictions')
    run_command('convert', checkpoint, 'timm', '--to', 'timm')


def test_lora_needs_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setitem(sys.modules, 'peft', None)
    write_classes(tmp_path / 'data', train=2, val=1)
    said = refused('train', CONFIG, '--data-root', 'data', '--lora', '2', '--cfg-options', *SMALL)
    assert 'pip install mae_backbone[lora]' in said
    assert 'expected a number of blocks' in run_command('train', CONFIG, '--freeze', 'some', code=2)
