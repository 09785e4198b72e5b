"""`mae-backbone convert`: what it prints, and what it says about mistakes."""
from pathlib import Path

import pytest
import torch
from helpers import stored_models

from mae_backbone.checkpoints.conversion.convert import TARGETS
from mae_backbone.cli import convert
from mae_backbone.cli.main import main
from mae_backbone.core.vit import ViT


@pytest.fixture(scope='module')
def mae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_models.mae(tmp_path_factory.mktemp('source') / 'mae.pth')


def test_option_lists_the_targets():
    assert set(convert._TARGETS) == TARGETS.keys()


def test_report(mae: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(['convert', str(mae), str(tmp_path / 'out'), '--to', 'timm', '--verify']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'read     {mae}: layout ours, ViT 32x2/8, 4 heads'
    assert lines[2:4] == ['note     left out: decoder',
                          'license  not stated by the file, --license writes it into the result']
    assert 'verified by timm' in lines[5]
    assert 'largest difference of features 0' in lines[5]
    assert lines[-1] == f"use      model = timm.create_model('local-dir:{tmp_path / 'out'}', pretrained=True)"


def test_license_of_public_weights_is_said(tmp_path: Path, capsys: pytest.CaptureFixture):
    source = tmp_path / 'mae_pretrain_vit_base.pth'
    torch.save({'model': ViT(**stored_models.TINY).state_dict()}, source)
    assert main(['convert', str(source), str(tmp_path / 'out.pkl'), '--to', 'detectron2', '--heads', '4']) == 0
    out = capsys.readouterr().out
    assert 'license  cc-by-nc-4.0 (mae_pretrain_vit_base.pth is the name of public weights, https://github.com' in out
    assert 'the public MAE weights are under CC BY-NC 4.0: attribution, no commercial use' in out


@pytest.mark.parametrize(('arguments', 'message'), [
    (['missing.pth', 'out.pth', '--to', 'mae'], 'checkpoint missing.pth does not exist: check the path'),
    (['.', 'out.pth', '--to', 'mae'], '. is a folder, and has neither model.safetensors'),
    (['text.pth', 'out.pth', '--to', 'mae'], 'text.pth is not a checkpoint, or is damaged or cut off'),
    (['cut.pth', 'out.pth', '--to', 'mae'], 'cut.pth is not a checkpoint, or is damaged or cut off'),
    (['resnet.pth', 'out.pth', '--to', 'mae'], 'resnet.pth holds no ViT'),
    (['mae.pth', 'out.pth', '--to', 'mae', '--heads', '2'], '--heads 2, but mae.pth says that it has 4'),
    (['mae.pth', 'out.bin', '--to', 'mae'], 'name OUT so'),
    (['mae.pth', 'text.pth', '--to', 'mae'], 'text.pth exists: choose another name, or pass --force'),
    (['mae.pth', 'mae.pth', '--to', 'mae', '--force'], 'mae.pth is IN and OUT'),
    (['nan.pth', 'out.pth', '--to', 'mae'], 'NaN or infinite values in 1 of'),
])
def test_mistakes(mae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
                  arguments: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    data = mae.read_bytes()
    Path('mae.pth').write_bytes(data)
    Path('cut.pth').write_bytes(data[:len(data) // 2])
    Path('text.pth').write_text('not weights')
    torch.save({'conv1.weight': torch.zeros(2, 2)}, 'resnet.pth')
    content = torch.load('mae.pth', weights_only=True)
    content['state_dict']['mae.encoder.norm.weight'][0] = float('nan')
    torch.save(content, 'nan.pth')
    before = sorted(Path().iterdir())
    assert main(['convert', *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert 'Traceback' not in captured.err
    assert sorted(Path().iterdir()) == before


def test_unknown_target_lists_the_known(capsys: pytest.CaptureFixture):
    assert main(['convert', 'a', 'b', '--to', 'keras']) == 2
    assert 'mmpretrain' in capsys.readouterr().err
