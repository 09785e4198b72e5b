"""The edge of the tools: options into configs, arithmetic of the learning rate, errors into messages."""
import argparse
import errno
import signal

import pytest
import torch
from helpers.pretraining_runs import runner
from mmengine.config import Config

from mae_backbone.checkpoints.run_files import DiskFullError
from mae_backbone.cli import config as cli_config
from mae_backbone.cli import errors, plan
from mae_backbone.cli.pretrain import add_options as pretrain_options
from mae_backbone.cli.train import add_options as train_options
from mae_backbone.data.decode import BadImageError
from mae_backbone.hooks.nonfinite_guard import NonFiniteError
from mae_backbone.hooks.preemption import Interrupted


def config(**extra) -> Config:
    return Config(dict(
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-4)),
        train_dataloader=dict(batch_size=32), launcher='none', work_dir='w', **extra))


def parsed(add_options, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(arguments)


def run(error: Exception) -> int:
    def main() -> None:
        raise error
    return errors.run_cli(main, resume_hint='the same command with --resume continues')


def test_the_learning_rate_follows_the_effective_batch_with_accumulation_and_processes(monkeypatch):
    cfg = config(auto_scale_lr=dict(base_batch_size=256, enable=True))
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.launcher = 'pytorch'
    monkeypatch.setenv('WORLD_SIZE', '8')
    line = cli_config.scale_learning_rate(cfg)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 32 * 4 * 8 / 256)
    assert 'effective batch 1024' in line
    assert not cfg.auto_scale_lr.enable, 'MMEngine would scale it once more'


def test_without_scaling_the_learning_rate_stays():
    cfg = config(auto_scale_lr=dict(base_batch_size=256))
    assert '0.00015' in cli_config.scale_learning_rate(cfg)
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


def test_a_run_that_has_saved_ends_with_the_code_of_its_signal():
    def main() -> None:
        raise Interrupted(signal.SIGUSR1)
    assert errors.run_cli(main) == 128 + signal.SIGUSR1


def test_a_lost_process_is_one_line(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    said = errors.explain(RuntimeError('[../gloo/transport/tcp/pair.cc:1] Connection closed by peer [::1]:5\nmore'))
    assert said.startswith('process 1: another process of this run has ended')
    assert '\n' not in said


@pytest.mark.parametrize(('rank', 'says'), [('0', True), ('1', False)])
def test_what_every_process_finds_is_said_once(monkeypatch, capsys, rank, says):
    monkeypatch.setenv('RANK', rank)
    assert run(NonFiniteError('the training does not recover')) == 2
    assert ('does not recover' in capsys.readouterr().err) == says


def test_no_room_for_a_checkpoint_says_how_much_is_needed():
    assert errors.explain(DiskFullError(errno.ENOSPC, 'it needs 3 MB')) == 'it needs 3 MB'


def test_a_full_disk_is_named_however_torch_words_it():
    assert 'disk is full' in errors.explain(OSError(errno.ENOSPC, 'x'))
    worker = ('Caught BadImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
              "  File x\n    raise BadImageError(f'{bad}')\n"
              'mae_backbone.data.decode.BadImageError: 3 of 12: see\n  a.jpg\nRemove them')
    assert errors.explain(BadImageError(worker)) == '3 of 12: see\n  a.jpg\nRemove them'
    assert 'disk is full' in errors.explain(RuntimeError('write failed: No space left on device'))


def test_memory_that_does_not_suffice_is_no_defect():
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 50)
    assert 'too little memory: lower the batch size' in errors.explain(error.value)
    assert 'you tried to allocate 4503599627370496 bytes' in errors.explain(error.value)


@pytest.mark.parametrize('key', ['optim_wraper', 'train_dataloder', 'param_schedular'])
def test_a_misspelled_key_of_a_config_is_named(key):
    with pytest.raises(ValueError, match=rf'{key}.*did you mean'):
        cli_config.check_keys(Config({key: {}}), {})


def test_a_misspelled_option_is_named():
    with pytest.raises(ValueError, match=r'did you mean .train_dataloader'):
        cli_config.check_keys(Config(dict(model={})), {'train_dataloder.batch_size': 2})
    cli_config.check_keys(Config(dict(model={}, own_variable=3)), {'own_variable': 4, 'train_cfg.max_epochs': 1})


def test_amp_on_a_cpu_says_that_training_stays_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg = config()
    assert 'float32' in cli_config.switch_amp_on(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'


@pytest.mark.parametrize('has', [True, False])
def test_amp_in_pretraining_takes_bfloat16_where_the_cpu_has_it(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(cli_config, 'cpu_has_bfloat16', lambda: has)
    cfg = config(model=dict(type='mae_backbone.MAEPretrainer'))
    said = cli_config.switch_amp_on(cfg)
    assert ('bfloat16 (autocast)' in said, 'slower' in said) == (has, not has)
    assert cfg.optim_wrapper.get('dtype') == ('bfloat16' if has else None)
    assert cfg.optim_wrapper.type == ('mae_backbone.GuardedOptimWrapper' if has else 'OptimWrapper')


@pytest.mark.parametrize(('text', 'has'), [
    ('flags\t\t: fpu avx512f avx512_bf16\n', False), ('flags\t\t: fpu amx_bf16\n', True),
    ('Features\t: fp asimd bf16\n', True), ('flags\t\t: fpu avx2 avx512f\n', False), ('', False), (None, False)])
def test_instructions_for_bfloat16_are_read_off_the_system(tmp_path, text, has):
    if text is not None:
        (tmp_path / 'cpuinfo').write_text(text)
    assert cli_config.cpu_has_bfloat16(str(tmp_path / 'cpuinfo')) == has


def test_amp_takes_bfloat16_where_the_gpu_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for has, dtype, scale in ((True, 'bfloat16', 1.0), (False, 'float16', 'dynamic')):
        cfg = config()
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda has=has: has)
        assert dtype in cli_config.switch_amp_on(cfg)
        assert (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale) == ('AmpOptimWrapper', scale)


def test_a_folder_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match=r'--work-dir .* cannot be written'):
        cli_config.make_folder(str(tmp_path / 'file' / 'below'), '--work-dir')
    cli_config.make_folder(str(tmp_path / 'new'), '--work-dir')
    assert not list((tmp_path / 'new').iterdir())


def test_pretrained_goes_into_the_backbone_and_resume_into_the_run(tmp_path):
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save({}, checkpoint)
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    cfg = config(model=dict(backbone=dict()))
    cfg.work_dir = str(tmp_path)
    args = parsed(train_options, 'c.py', '--pretrained', 'mae.pth', '--resume')
    lines = cli_config.prepare_training(cfg, args)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='mae.pth')
    assert cfg.resume
    assert cfg.load_from == str(checkpoint)
    assert any('resumes from' in line for line in lines)


def test_resuming_where_there_is_nothing_starts_anew(tmp_path):
    cfg = config(model=dict())
    cfg.work_dir = str(tmp_path / 'none')
    lines = cli_config.prepare_training(cfg, parsed(pretrain_options, 'c.py', '--resume', 'auto'))
    assert not cfg.resume
    assert any('resumes nothing' in line for line in lines)


@pytest.mark.parametrize(('launcher', 'name'), [
    ('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')])
def test_processes_are_those_of_the_launcher(launcher, name, monkeypatch):
    monkeypatch.setenv(name, '6')
    assert cli_config.processes_of(launcher) == 6
    assert cli_config.processes_of('none') == 1


def test_a_missing_package_that_the_config_asks_for_is_no_defect():
    message = errors.explain(ImportError('Please run "pip install wandb" to install wandb'))
    assert 'not installed' in message
    assert 'pip install wandb' in message


def test_the_plan_of_a_pretraining_has_its_steps_and_its_memory(tmp_path, capsys):
    run = runner(tmp_path, [], dict(by_epoch=True, max_epochs=3), images=22)
    plan.print_plan(run, ['a line'])
    said = capsys.readouterr().out
    assert 'a line' in said
    assert 'length: 3 epochs x 6 steps = 18 steps, on 22 images' in said
    assert 'GB expected for tensors at the peak of a step' in said


def test_an_estimate_that_fails_stops_no_run(tmp_path, monkeypatch):
    run = runner(tmp_path, [], dict(by_epoch=False, max_iters=3))

    def looks_at_values(*_):
        raise RuntimeError('data-dependent')
    monkeypatch.setattr(run.model.mae, 'draw_mask', looks_at_values)
    assert plan.length_and_memory(run) == [
        'length: 3 steps, on 8 images; time to go: measured over the first 20 steps, then in the log',
        'memory: not estimated, RuntimeError: data-dependent']
