"""The edge of the tools: options into configs, arithmetic of the learning rate, errors into messages."""
import argparse
import errno

import pytest
import torch
from mmengine.config import Config

from mae_backbone import cli


def config(**extra) -> Config:
    return Config(dict(
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-4)),
        train_dataloader=dict(batch_size=32), launcher='none', work_dir='w', **extra))


def run(error: Exception) -> int:
    def main() -> None:
        raise error
    with pytest.raises(SystemExit) as stop:
        cli.tool(main)
    return stop.value.code


def test_the_learning_rate_follows_the_effective_batch_with_accumulation_and_processes(monkeypatch):
    cfg = config(auto_scale_lr=dict(base_batch_size=256, enable=True))
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.launcher = 'pytorch'
    monkeypatch.setenv('WORLD_SIZE', '8')
    line = cli.scale_learning_rate(cfg)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 32 * 4 * 8 / 256)
    assert 'effective batch 1024' in line
    assert not cfg.auto_scale_lr.enable, 'MMEngine would scale it once more'


def test_without_scaling_the_learning_rate_stays():
    cfg = config(auto_scale_lr=dict(base_batch_size=256))
    assert '0.00015' in cli.scale_learning_rate(cfg)
    assert cfg.optim_wrapper.optimizer.lr == 1.5e-4


@pytest.mark.parametrize('error', [
    ValueError('came this, wanted that'), FileNotFoundError('no such thing'), PermissionError(13, 'denied', '/x'),
    OSError(errno.ENOSPC, 'No space left on device'), KeyError('X is not in the mmdet::model registry'),
    TypeError("class `A`: __init__() got an unexpected keyword argument 'b'"),
    RuntimeError('DataLoader worker (pid 1) exited unexpectedly'),
])
def test_a_users_mistake_is_one_message_and_exit_code_2(error, capsys):
    assert run(error) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ')
    assert 'Traceback' not in said


def test_a_defect_of_ours_keeps_its_traceback(capsys):
    assert run(ZeroDivisionError('ours')) == 1
    said = capsys.readouterr().err
    assert 'Traceback' in said
    assert 'report' in said


def test_the_traceback_of_a_mistake_can_be_asked_for(monkeypatch, capsys):
    monkeypatch.setenv('MAE_BACKBONE_TRACEBACK', '1')
    assert run(ValueError('mistake')) == 2
    assert 'Traceback' in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(capsys):
    assert run(KeyboardInterrupt()) == 130
    assert '--resume' in capsys.readouterr().err


def test_a_full_disk_is_named_however_torch_words_it():
    assert 'disk is full' in cli.explain(OSError(errno.ENOSPC, 'x'))
    assert 'disk is full' in cli.explain(RuntimeError('write failed: No space left on device'))


@pytest.mark.parametrize('key', ['optim_wraper', 'train_dataloder', 'param_schedular'])
def test_a_misspelt_key_of_a_config_is_named(key):
    with pytest.raises(ValueError, match=rf'{key}.*did you mean'):
        cli.check_keys(Config({key: {}}), {})


def test_a_misspelt_option_is_named():
    with pytest.raises(ValueError, match=r'did you mean .train_dataloader'):
        cli.check_keys(Config(dict(model={})), {'train_dataloder.batch_size': 2})
    cli.check_keys(Config(dict(model={}, own_variable=3)), {'own_variable': 4, 'train_cfg.max_epochs': 1})


def test_amp_on_a_cpu_says_that_it_stays_float32():
    cfg = config()
    if not torch.cuda.is_available():
        assert 'float32' in cli.switch_amp_on(cfg)
        assert cfg.optim_wrapper.type == 'OptimWrapper'


def test_amp_takes_bfloat16_where_the_gpu_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for has, dtype, scale in ((True, 'bfloat16', 1.0), (False, 'float16', 'dynamic')):
        cfg = config()
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda has=has: has)
        assert dtype in cli.switch_amp_on(cfg)
        assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ('AmpOptimWrapper', scale)


def test_a_config_that_does_not_exist_is_refused_with_near_names(tmp_path, monkeypatch):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'mae_b.py').write_text('')
    monkeypatch.chdir(tmp_path)
    args = argparse.Namespace(config='configs/mae_c.py', local_rank=0)
    with pytest.raises(FileNotFoundError, match=r'did you mean configs/mae_b\.py'):
        cli.load_config(args)


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match=r'--work-dir .* cannot be written'):
        cli.make_folder(str(tmp_path / 'file' / 'below'), '--work-dir')
    cli.make_folder(str(tmp_path / 'new'), '--work-dir')
    assert not list((tmp_path / 'new').iterdir())


def test_pretrained_goes_into_the_backbone_and_resume_into_the_run(tmp_path):
    checkpoint = tmp_path / 'epoch_1.pth'
    checkpoint.write_bytes(b'')
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    cfg = config(model=dict(backbone=dict()))
    cfg.work_dir = str(tmp_path)
    args = argparse.Namespace(amp=False, pretrained='mae.pth', resume='auto')
    lines = cli.prepare_training(cfg, args)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='mae.pth')
    assert cfg.resume
    assert cfg.load_from == str(checkpoint)
    assert any('resumes from' in line for line in lines)


def test_resuming_where_there_is_nothing_starts_anew(tmp_path):
    cfg = config(model=dict())
    cfg.work_dir = str(tmp_path / 'none')
    lines = cli.prepare_training(cfg, argparse.Namespace(amp=False, pretrained=None, resume='auto'))
    assert not cfg.resume
    assert any('resumes nothing' in line for line in lines)
