"""The plan that is printed before a run."""
from pathlib import Path

import pytest
import torch
from helpers.micro_runs import run_config, write_data
from helpers.pretraining_runs import runner

from mae_backbone.cli import run_plan
from mae_backbone.cli.training import set_batch_and_lr, set_length
from mae_backbone.engine.runner import Runner


def test_plan_of_a_pretraining_has_steps_and_memory(tmp_path, capsys):
    run = runner(tmp_path, [], dict(by_epoch=True, max_epochs=3), images=22)
    run_plan.print_plan(run, ['a line'])
    said = capsys.readouterr().out
    assert 'a line' in said
    assert 'length: 3 epochs x 6 steps = 18 steps, on 22 images' in said
    assert 'GB expected for tensors at the peak of a step' in said


def test_failed_memory_estimate_does_not_stop_the_run(tmp_path, monkeypatch):
    run = runner(tmp_path, [], dict(by_epoch=False, max_iters=3))

    def looks_at_values(*_):
        raise RuntimeError('data-dependent')
    monkeypatch.setattr(run.model.mae, 'draw_mask', looks_at_values)
    assert run_plan.length_and_memory(run) == [
        'length: 3 steps, on 8 images; the remaining time is measured over the first 20 steps',
        'memory: not estimated, RuntimeError: data-dependent']


def test_batch_of_a_smaller_set_is_the_one_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """24 images and a batch of 128: steps of 24 images."""
    cfg = run_config('classification', tmp_path / 'work', write_data('classification', tmp_path / 'data'))
    cfg.train_dataloader.batch_size, cfg.param_scheduler, cfg.launcher = 128, [], 'none'
    line = set_batch_and_lr(cfg, lr=0.01)
    assert 'effective batch 128' in line
    run = Runner.quietly_from_cfg(cfg)
    images = len(run.train_dataloader.dataset)
    run_plan.print_plan(run, [line])
    said = capsys.readouterr().out
    used = run.train_dataloader.batch_size
    assert used == images - images % 2 < 128
    assert f'effective batch {used} = {used} per process x 1 processes x 1 accumulated (128 in the config, but the ' \
           f'training set has {images} images per process); peak learning rate 0.01' in said
    assert f'epochs x 1 steps = {run.train_loop.max_iters} steps, on {images} images' in said


def test_plan_prints_the_length_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cfg = run_config('pretraining', tmp_path / 'work', write_data('pretraining', tmp_path / 'data'), iterations=100)
    line = set_length(cfg, iters=10)
    run_plan.print_plan(Runner.quietly_from_cfg(cfg), [line])
    said = capsys.readouterr().out
    assert said.count('length: ') == 1
    assert 'length: 10 steps, on 23 images' in said
    assert 'multiplied by 0.1: 10 iters instead of the 100 of the config' in said


def test_memory_option_sets_the_checkpointing_of_model_and_config(tmp_path):
    run = runner(tmp_path, [], dict(by_epoch=False, max_iters=3))
    assert 'model.encoder.checkpointing=0 (no block is computed again' in run_plan.fit_memory(run, 1.0)
    assert run.cfg.model.encoder.checkpointing == 0
    with pytest.raises(ValueError, match='with every block computed again, and --memory is 0'):
        run_plan.fit_memory(run, 1e-6)
    run.model.weight = DTensorLike(torch.zeros(1))
    with pytest.raises(ValueError, match='does not support sharded models'):
        run_plan.fit_memory(run, 1.0)


class DTensorLike(torch.nn.Parameter):
    """A sharded parameter, by its method."""

    def full_tensor(self):
        return self
