"""Training options of the command line, written into the config."""
import argparse
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.encoder_files import save
from helpers.run_checkpoints import run_content
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR, LinearLR
from mmengine.registry import PARAM_SCHEDULERS

from mae_backbone.cli import training
from mae_backbone.cli.pretrain import add_options as pretrain_options
from mae_backbone.cli.train import add_options as train_options


def config(**extra) -> Config:
    return Config(dict(
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-4)),
        train_dataloader=dict(batch_size=32), launcher='none', work_dir='w', **extra))


def parsed(add_options, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(arguments)


def test_learning_rate_follows_the_effective_batch(monkeypatch):
    cfg = config(auto_scale_lr=dict(base_batch_size=256, enable=True))
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.launcher = 'pytorch'
    monkeypatch.setenv('WORLD_SIZE', '8')
    line = training.set_batch_and_lr(cfg)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * 32 * 4 * 8 / 256)
    assert 'effective batch 1024' in line
    assert not cfg.auto_scale_lr.enable, 'MMEngine would scale it once more'


def test_learning_rate_stays_without_scaling():
    cfg = config(auto_scale_lr=dict(base_batch_size=256))
    assert '0.00015' in training.set_batch_and_lr(cfg)
    assert cfg.optim_wrapper.optimizer.lr == 1.5e-4


@pytest.mark.parametrize('has', [True, False])
def test_amp_on_a_cpu_uses_bfloat16_if_it_has_instructions_for_it(monkeypatch, has):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(training, 'cpu_has_bfloat16', lambda: has)
    cfg = config()
    said = training.enable_amp(cfg)
    assert ('bfloat16 (autocast)' in said, 'no effect' in said) == (has, not has)
    assert cfg.optim_wrapper.get('dtype') == ('bfloat16' if has else None)
    assert cfg.optim_wrapper.type == ('mae_backbone.GuardedOptimWrapper' if has else 'OptimWrapper')


@pytest.mark.parametrize(('native', 'dtype'), [(True, 'bfloat16'), (False, 'float16')])
def test_amp_uses_bfloat16_if_the_gpu_has_units_for_it(monkeypatch, native, dtype):
    """A GPU without them, such as a T4, emulates bfloat16, and torch counts that as supported by default."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: including_emulation or native)
    cfg = config()
    assert f'precision: {dtype}' in training.enable_amp(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.dtype) == ('mae_backbone.GuardedOptimWrapper', dtype)


def test_pretrained_sets_the_backbone_and_resume_the_run(tmp_path):
    checkpoint = tmp_path / 'epoch_1.pth'
    torch.save({}, checkpoint)
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    cfg = config(model=dict(backbone=dict()))
    cfg.work_dir = str(tmp_path)
    args = parsed(train_options, 'c.py', '--pretrained', 'mae.pth', '--resume')
    lines = training.prepare_training(cfg, args)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='mae.pth')
    assert cfg.resume
    assert cfg.load_from == str(checkpoint)
    assert any('resumes from' in line for line in lines)


def test_pretraining_starts_from_pretrained_weights_unless_it_is_resumed(tmp_path):
    file = save(tmp_path / 'mae.pth', heads=2)
    cfg = config(model=dict(type='mae_backbone.MAEPretrainer'))
    cfg.work_dir = str(tmp_path / 'run')
    args = parsed(pretrain_options, 'c.py', '--pretrained', str(file), '--weights-heads', '2', '--resume')
    lines = training.prepare_training(cfg, args)
    assert cfg.model.init_cfg == dict(type='Pretrained', checkpoint=str(file), heads=2)
    assert not cfg.resume
    assert f'starts from the weights of {file}, at iteration 0 of the schedule of this config' in lines
    file.rename(tmp_path / 'run' / 'epoch_1.pth')  # the file that the run started from is not needed any more
    lines = training.prepare_training(cfg, args)
    assert cfg.resume
    assert cfg.model.init_cfg is None
    assert any(f'not from {file}, which the run started from' in line for line in lines)
    cfg.work_dir = str(tmp_path / 'other')
    with pytest.raises(FileNotFoundError, match='does not exist'):
        training.prepare_training(cfg, args)


def test_resume_without_a_checkpoint_starts_a_new_run(tmp_path):
    cfg = config(model=dict())
    cfg.work_dir = str(tmp_path / 'none')
    lines = training.prepare_training(cfg, parsed(pretrain_options, 'c.py', '--resume', 'auto'))
    assert not cfg.resume
    assert any('nothing to resume' in line for line in lines)


@pytest.mark.parametrize(('launcher', 'name'), [
    ('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')])
def test_number_of_processes_is_read_from_the_launcher(launcher, name, monkeypatch):
    monkeypatch.setenv(name, '6')
    assert training.num_processes(launcher) == 6
    assert training.num_processes('none') == 1


def schedule(**train_cfg: object) -> Config:
    """300 iterations, of which 30 are warm-up, or 10 epochs with one epoch of warm-up."""
    by_epoch = 'max_epochs' in train_cfg
    length, warmup = (10, 1) if by_epoch else (300, 30)
    return config(
        train_cfg=dict(val_interval=length // 5, **train_cfg),
        param_scheduler=[dict(type='LinearLR', begin=0, end=warmup, by_epoch=by_epoch),
                         dict(type='CosineAnnealingLR', begin=warmup, end=length, T_max=length - warmup,
                              by_epoch=by_epoch),
                         dict(type='MultiStepLR', milestones=[length // 2, length * 9 // 10], by_epoch=by_epoch)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=length, by_epoch=by_epoch)))


@pytest.mark.parametrize(('train_cfg', 'option'), [(dict(max_iters=300), '--iters'), (dict(max_epochs=10), '--epochs')])
@pytest.mark.parametrize('factor', [2, 0.5])
def test_length_stretches_schedule_warmup_and_validation_interval(train_cfg: dict, option: str, factor: float):
    (key, length), cfg = *train_cfg.items(), schedule(**train_cfg)
    before = schedule(**train_cfg)
    new = int(length * factor)
    args = parsed(train_options, 'c.py', option, str(new))
    line = training.set_length(cfg, epochs=args.epochs, iters=args.iters)
    assert line.endswith(f'multiplied by {factor:g}: {new} {key[4:]} instead of the {length} of the config')
    assert cfg.train_cfg[key] == new
    assert cfg.train_cfg.val_interval == before.train_cfg.val_interval * factor
    warmup, cosine, steps = cfg.param_scheduler
    assert warmup.end == cosine.begin == max(2 if length == 10 else 1, int(before.param_scheduler[0].end * factor))
    assert cosine.T_max == new - warmup.end
    assert cosine.end == new
    assert steps.milestones == [round(step * factor) for step in before.param_scheduler[2].milestones]
    assert cfg.default_hooks.checkpoint.interval == min(length, new), 'a checkpoint at the end'


def test_shortest_schedule_still_reaches_the_peak_learning_rate():
    """MMEngine's warm-up of a single step stays at its first value, a ten-thousandth of the learning rate."""
    cfg = config(train_cfg=dict(max_iters=3500), param_scheduler=[
        dict(type='LinearLR', start_factor=1e-4, begin=0, end=100, by_epoch=False),
        dict(type='CosineAnnealingLR', begin=100, end=3500, T_max=3400, by_epoch=False)])
    training.set_length(cfg, iters=8)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    types = {'LinearLR': LinearLR, 'CosineAnnealingLR': CosineAnnealingLR}
    schedulers = [types[options.pop('type')](optimizer, **options) for options in map(dict, cfg.param_scheduler)]
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert max(rates) == 1.0
    assert rates[-1] < 0.2


@pytest.mark.parametrize(('train_cfg', 'wrong', 'right'), [
    (dict(max_iters=300), '--epochs', '--iters'), (dict(max_epochs=10), '--iters', '--epochs')])
def test_length_in_the_other_unit_is_refused(train_cfg: dict, wrong: str, right: str):
    args = parsed(train_options, 'c.py', wrong, '3')
    with pytest.raises(ValueError, match=f'{wrong}: this config counts in .*: pass {right} instead'):
        training.set_length(schedule(**train_cfg), epochs=args.epochs, iters=args.iters)


def test_batch_size_scales_the_learning_rate_that_is_meant_for_another():
    cfg = config(auto_scale_lr=dict(base_batch_size=64))
    assert '= 0.00015 x 16 / 64' in training.set_batch_and_lr(cfg, batch_size=16)
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 / 4)

    cfg = config()
    assert 'not scaled with the batch: pass --lr' in training.set_batch_and_lr(cfg, batch_size=16)
    assert cfg.optim_wrapper.optimizer.lr == 1.5e-4


def test_learning_rate_of_the_command_line_is_not_scaled():
    cfg = config(auto_scale_lr=dict(base_batch_size=256, enable=True))
    assert 'learning rate 0.01 (--lr; 0.00015 in the config)' in training.set_batch_and_lr(cfg, batch_size=8, lr=0.01)
    assert cfg.optim_wrapper.optimizer.lr == 0.01
    assert not cfg.auto_scale_lr.enable


@pytest.mark.parametrize('arguments', [
    ('--lr', '0'), ('--lr', 'nan'), ('--iters', '1.5'), ('--epochs', '1', '--iters', '2'), ('--batch-size', '-1')],
    ids=str)
def test_invalid_training_options_are_refused(arguments: tuple[str, ...], capsys):
    with pytest.raises(SystemExit):
        parsed(train_options, 'c.py', *arguments)


@pytest.mark.parametrize('iters', [50, 100, 800])
def test_warmup_into_a_cosine_is_stretched_to_the_same_curve(iters: int):
    def rates(cfg: Config, length: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedulers = [PARAM_SCHEDULERS.build(dict(part, optimizer=optimizer)) for part in cfg.param_scheduler]
        values = []
        for _ in range(length):
            values.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        return values

    def cfg() -> Config:
        return config(train_cfg=dict(max_iters=200, val_interval=50), param_scheduler=[
            dict(type='mae_backbone.LinearWarmup', start_factor=0.01, end=20, by_epoch=False, cosine_length=200),
            dict(type='CosineAnnealingLR', begin=0, end=200, T_max=200, by_epoch=False)])
    stretched = cfg()
    training.set_length(stretched, iters=iters)
    assert stretched.param_scheduler[0].cosine_length == iters
    before, after = rates(cfg(), 200), rates(stretched, iters)
    expected = np.interp(np.arange(iters) * 200 / iters, np.arange(200), before)
    assert np.abs(np.array(after) - expected).max() < 0.01


@pytest.mark.parametrize('iters', [30, 33, 301, 1234])
def test_length_does_not_change_the_number_of_validations(iters: int):
    """With an interval of 10 and 51 iterations, a validation at 50 would be followed by the last one at 51."""
    cfg = schedule(max_iters=300)
    training.set_length(cfg, iters=iters)
    assert math.ceil(iters / cfg.train_cfg.val_interval) == 5


def test_typed_validation_interval_is_not_stretched():
    cfg = schedule(max_iters=300)
    training.set_length(cfg, iters=30, typed={'train_cfg.val_interval': 60})
    assert cfg.train_cfg.val_interval == 60
    cfg = schedule(max_iters=300)
    training.set_length(cfg, iters=30)
    assert cfg.train_cfg.val_interval == 6


@pytest.mark.parametrize(('named', 'ages', 'expected'), [
    ([], dict(best_a=3, iter_4=2), 'iter_4'), (['best_a'], dict(best_a=3, iter_4=2), 'best_a'),
    ([], dict(iter_4=3, best_a=2), 'best_a'), (['best_a'], dict(best_b=3, best_a=2, iter_4=1), 'best_a'),
    ([], dict(best_a=3), 'best_a')])
def test_best_checkpoint_of_an_earlier_run_in_the_folder_does_not_count(
        tmp_path: Path, named: list[str], ages: dict[str, int], expected: str):
    content = run_content()
    content['message_hub']['runtime_info'] = {f'best_ckpt_{name}': f'elsewhere/{name}.pth' for name in named}
    for name, age in ages.items():
        torch.save(content, tmp_path / f'{name}.pth')
        os.utime(tmp_path / f'{name}.pth', ns=(0, 10**18 - age * 10**9))
    assert training.last_checkpoint(str(tmp_path)) == str(tmp_path / f'{expected}.pth')


def test_scaling_of_the_learning_rate_needs_the_batch_that_it_is_meant_for():
    with pytest.raises(ValueError, match=r'without auto_scale_lr\.base_batch_size'):
        training.set_batch_and_lr(config(auto_scale_lr=dict(enable=True)))


@pytest.mark.parametrize(('typed', 'warns'), [({'train_cfg.max_iters': 60}, True), ({}, False)])
def test_a_training_that_ends_before_its_schedule_is_warned_of_if_the_user_shortens_it(typed: dict, warns: bool):
    cfg = config(train_cfg=dict(max_iters=60), param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, begin=0, end=10, by_epoch=False),
        dict(type='CosineAnnealingLR', begin=10, end=100, T_max=90, by_epoch=False)])
    lines = training.unfinished_schedule(cfg, typed)
    assert [line.startswith('warning: the training ends after 60 iters, and') for line in lines] == [True] * warns
    cfg.param_scheduler[1].end = 60
    assert training.unfinished_schedule(cfg, typed) == []
