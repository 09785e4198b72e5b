"""The report of loaded weights: its text, and where it is shown."""
import logging
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.report import LoadReport, say
from mae_backbone.core.vit import ViT

TINY = dict(arch=dict(width=32, depth=2, heads=2), patch_size=8)


def report_of(tmp_path: Path) -> LoadReport:
    source, model = ViT(**TINY, image_size=32), ViT(**TINY, image_size=48, class_token=False, final_norm=False,
                                                    relative_positions=True)
    weights = source.state_dict() | {f'decoder_blocks.{i}.norm1.bias': torch.ones(4) for i in range(3)}
    torch.save({'model': weights, 'model_ema': weights}, tmp_path / 'mae.pth')
    return load_encoder(model, tmp_path / 'mae.pth')


def test_report_says_what_happened(tmp_path: Path):
    report = report_of(tmp_path)
    assert str(report).splitlines() == [
        f'weights from {tmp_path / "mae.pth"}',
        '  format    facebookresearch/mae',
        "  taken     'model_ema' taken, not 'model' (--weights-key chooses)",
        '  mapped    27 tensors of the encoder, from 27 of the file',
        '  resized   pos_embed from 4x4 to 6x6 patches (bicubic)',
        '  left out  6 tensors of the file: cls_token, decoder_blocks (3), norm (2)',
        '  missing   4 tables of relative positions start at zero',
        '  note      heads: 2 of the model; the file does not state them (width 32 is no multiple of 64: compare it '
        'yourself)']


def test_many_groups_are_cut_and_warnings_come_last():
    report = LoadReport('a.pth', 'timm ViT', 'backbone.', left_out=[f'head{i}.weight' for i in range(11)],
                        missing=['blocks.0.residual.conv1.weight', 'blocks.1.residual.conv1.weight'],
                        notes=['one'], warnings=['two'])
    lines = str(report).splitlines()
    assert lines[1].endswith("timm ViT, prefix 'backbone.'")
    assert lines[3].endswith('head7 and 3 more')
    assert lines[4] == '  missing   2 tensors start as in a new model: blocks (2)'
    assert [line.split()[0] for line in lines[-2:]] == ['note', 'warning']


def test_report_reaches_the_logger_of_mmengine_which_mmdet_and_mmseg_use(monkeypatch: pytest.MonkeyPatch,
                                                                       capsys: pytest.CaptureFixture,
                                                                       caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, 'mae_backbone')
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    MMLogger.get_instance('test-report', logger_name='test-report')
    say(LoadReport('a.pth', 'timm ViT', ''))
    assert 'weights from a.pth' in capsys.readouterr().out


def test_report_is_printed_where_nothing_logs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
                                              caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING, 'mae_backbone')
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    say(LoadReport('a.pth', 'timm ViT', ''))
    assert 'weights from a.pth' in capsys.readouterr().err


def test_report_goes_to_the_logger_of_the_package_if_it_has_a_handler(caplog: pytest.LogCaptureFixture,
                                                                     capsys: pytest.CaptureFixture):
    logger = logging.getLogger('mae_backbone')
    logger.propagate = True
    caplog.set_level(logging.INFO, logger='mae_backbone')
    say(LoadReport('a.pth', 'timm ViT', ''))
    assert 'weights from a.pth' in caplog.text
    assert capsys.readouterr().out == ''
