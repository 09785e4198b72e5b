"""kill -9 at any moment, again and again, changes no loss of a training."""
import multiprocessing
import os
from pathlib import Path

import pytest
from helpers.driven_runs import drive
from helpers.micro_runs import run_config, train, write_data

KILLS = int(os.environ.get('MAE_BACKBONE_KILLS', '20'))  # more for a release


@pytest.mark.parametrize('task', ['pretraining', 'classification'])
def test_no_worker_outlives_a_training(tmp_path: Path, task: str):
    """At its exit Python would wait a minute for them, as they ignore its signal."""
    data = write_data(task, tmp_path / 'data')
    runner = train(run_config(task, tmp_path / 'run', data, iterations=9, workers=2))
    assert runner.iter == 9
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit_of_any_loss(tmp_path: Path):
    result = drive('kill', tmp_path, attempts=KILLS, iterations=60, accumulate=2, save_every=3)
    log = (tmp_path / 'killed.log').read_text()
    assert result['deaths'] == KILLS
    assert set(result['codes']) == {0}, log[-3000:]
    whole, *others = result['losses']
    assert len(whole) == len(set(whole)) == 60
    assert all(losses == whole for losses in others)
    assert log.count('resumed epoch') > KILLS // 4  # many kills happen during the start
    assert result['left'] == ['iter_58.pth', 'iter_60.pth']


@pytest.mark.slow
@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_kills_change_no_bit_of_any_loss_of_a_downstream_training(tmp_path: Path, task: str):
    kills = max(3, KILLS // 5)  # 50 of each with MAE_BACKBONE_KILLS=250
    result = drive('kill', tmp_path, attempts=kills, task=task, iterations=12, save_every=3)
    log = (tmp_path / 'killed.log').read_text()
    assert result['deaths'] == kills
    assert set(result['codes']) == {0}, log[-3000:]
    whole, *others = result['losses']
    assert len(whole) == len(set(whole)) == 12
    assert all(losses == whole for losses in others)
