"""From the command to the report, and what is asked for wrongly."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from helpers.class_folders import write_classes
from helpers.transfer_suites import SUITE, save_mae

from mae_backbone.transfer import benchmark
from mae_backbone.transfer.benchmark import place_of
from mae_backbone.transfer.executors import Job

ROOT = Path(__file__).parents[2]


def transfer(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / 'tools' / 'transfer.py', *map(str, words)], capture_output=True,
                          text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_tool_goes_on_after_a_failure_and_repeats_nothing(tmp_path):
    data, checkpoint = write_classes(tmp_path / 'data'), save_mae(tmp_path / 'mae.pth')
    suite = SUITE.replace('options=dict(k=K)', 'options=dict(k=2), seeds=[0, 1]').replace(
        'tasks = dict(', "tasks = dict(bad=dict(probe='linear', data=['images'], options=dict(held_out=7)),\n")
    (tmp_path / 'suite.py').write_text(suite)
    words = (tmp_path / 'suite.py', '--checkpoint', checkpoint, '--data-root', data, '--work-dir', tmp_path / 'out')
    first = transfer(*words)
    assert first.returncode == 1, first.stderr
    assert 'failed: ' in first.stdout
    assert 'held_out=7, wanted a share' in first.stdout
    record = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    assert [cell['task'] for cell in record['cells']] == ['knn', 'knn']
    assert len(record['failed']) == 1
    text = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    assert text.count('<img src="data:') == 4
    assert 'held_out=7' in text
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / 'out' / 'cells').rglob('result.json')}
    part = transfer(*words, '--tasks', 'knn', '--jobs', '1')
    assert part.returncode == 0, part.stdout + part.stderr
    assert '2 finished before' in part.stdout
    assert times == {path: path.stat().st_mtime_ns for path in times}


@pytest.mark.parametrize(('options', 'says'), [
    (dict(gpus='0,1', jobs=2), '--gpus and --jobs exclude one another'),
    (dict(gpus='0,,1'), 'wanted numbers with commas'), (dict(gpus='1,1'), 'wanted numbers with commas'),
    (dict(jobs=0), 'wanted 1 or more'),
    (dict(slurm=['partition']), 'wanted KEY=VALUE')])
def test_options_that_contradict_are_refused(tmp_path, options: dict, says: str):
    given = dict(gpus=None, jobs=None, slurm=None) | options
    with pytest.raises(ValueError, match=says):
        place_of([], tmp_path, given['gpus'], given['jobs'], given['slurm'])


@pytest.mark.parametrize(('named', 'wanted'), [(None, ['0', '1']), ('4,7', ['4', '7']), ('4, 7, 9', ['4', '7'])])
def test_without_options_all_gpus_are_used_by_their_own_names(tmp_path, monkeypatch, named: str | None, wanted: list):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if named is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', named)
    place = place_of([Job('a', (tmp_path,))], tmp_path, None, None, None)
    assert place.slots == wanted
    assert place.words == f'GPUs {", ".join(wanted)}'
    on_cpus = place_of([Job('a', (tmp_path,))] * 3, tmp_path, None, 2, None)
    assert on_cpus.slots == ['', '']
    assert on_cpus.words.startswith('CPUs, up to 2 jobs')


def test_two_machines_do_not_plan_at_the_same_time(tmp_path, monkeypatch):
    def plan(_: object) -> None:
        with pytest.raises(Timeout):
            FileLock(tmp_path / 'out' / 'plan.lock', timeout=0).acquire()
        raise ValueError('planned alone')
    monkeypatch.setattr(benchmark, 'plan', plan)
    checkpoint = save_mae(tmp_path / 'mae.pth')
    with pytest.raises(ValueError, match='planned alone'):
        benchmark.run('quick', [str(checkpoint)], [], data_root=tmp_path, out=tmp_path / 'out', root=ROOT)


def test_a_single_job_has_all_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('mae_backbone.transfer.benchmark.available_cpus', lambda: 4)
    monkeypatch.setattr('mae_backbone.utils.cpu.available_cpus', lambda: 4)
    job = Job('a', (tmp_path,))
    assert [place_of([job] * number, tmp_path, None, None, None).threads for number in (1, 2, 9)] == [4, 2, 1]
