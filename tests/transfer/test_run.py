"""From the command to the report, and wrong options."""
import json
from pathlib import Path

import pytest
import timm
import torch
from filelock import FileLock, Timeout
from helpers.class_folders import write_classes
from helpers.in_process import InProcessExecutor
from helpers.transfer_suites import SUITE, save_mae

from mae_backbone.cli.main import main
from mae_backbone.transfer import experiment_dir, run
from mae_backbone.transfer.executors import Job, LocalExecutor
from mae_backbone.transfer.run import run_transfer, select_executor


@pytest.fixture
def transfer(tmp_path, monkeypatch):
    """`mae-backbone transfer` on a small suite with two seeds, in this process."""
    monkeypatch.setattr(run, 'select_executor', lambda *_: InProcessExecutor())
    data, checkpoint = write_classes(tmp_path / 'data'), save_mae(tmp_path / 'mae.pth')
    suite = SUITE.replace('options=dict(k=K)', 'options=dict(k=2), seeds=[0, 1]').replace(
        'tasks = dict(', "tasks = dict(bad=dict(probe='linear', data=['images'], options=dict(held_out=7)),\n")
    (tmp_path / 'suite.py').write_text(suite)
    options = (tmp_path / 'suite.py', '--checkpoint', checkpoint, '--data-root', data, '--work-dir', tmp_path / 'out')
    return lambda *more: main(['transfer', *map(str, options), *more])


def results(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (out / 'cells').rglob(experiment_dir.RESULT)}


def test_a_failed_cell_is_reported_and_finished_cells_are_not_repeated(tmp_path, transfer, capfd):
    assert transfer() == 1
    printed = capfd.readouterr().out
    assert 'failed: ' in printed
    assert 'held_out=7' in printed
    record = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    assert [cell['task'] for cell in record['cells']] == ['knn', 'knn']
    assert len(record['failed']) == 1
    text = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    assert text.count('<img src="data:') == 4
    assert 'held_out=7' in text
    before = results(tmp_path / 'out')
    assert transfer('--tasks', 'knn') == 0
    assert '2 finished before' in capfd.readouterr().out
    assert results(tmp_path / 'out') == before


def test_a_folder_of_hugging_face_is_an_encoder_with_the_results_of_its_source(tmp_path, transfer, capfd):
    assert main(['convert', str(tmp_path / 'mae.pth'), str(tmp_path / 'hf'), '--to', 'hf']) == 0
    assert transfer('--tasks', 'knn', '--against', tmp_path / 'hf') == 0
    record = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    ours, theirs = ([row['summary']['mean'] for row in record['table'] if row['model'] == name]
                    for name in ('mae', 'hf'))
    assert ours
    assert ours == theirs


def test_a_model_of_timm_stands_next_to_a_mae(tmp_path, transfer, capfd):
    vit = timm.create_model('vit_tiny_patch16_224', embed_dim=32, depth=2, num_heads=2, reg_tokens=2)
    torch.save(vit.state_dict(), tmp_path / 'foreign.pth')
    suite = (tmp_path / 'suite.py').read_text().replace('options=dict(k=2)', 'options=dict(k=2, pooling="class")')
    (tmp_path / 'suite.py').write_text(suite + f"""
image_size = 32
encoders = dict(foreign=dict(timm='vit_tiny_patch16_224', checkpoint={str(tmp_path / 'foreign.pth')!r},
                             options=dict(embed_dim=32, depth=2, num_heads=2, reg_tokens=2)))
""")
    assert transfer('--tasks', 'knn', '--against', 'foreign') == 0
    record = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    assert {cell['model'] for cell in record['cells']} == {'mae', 'foreign'}
    assert record['encoders'][1]['timm']['name'] == 'vit_tiny_patch16_224'
    assert [verdict['reference'] for verdict in record['verdicts']] == ['foreign']
    text = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    assert text.count('<img src="data:') == 5   # attention and reconstruction of the MAE, both with the others
    assert 'Not drawn' not in text


def test_broken_files_are_named_and_their_cells_run_again(tmp_path, transfer, capfd):
    assert transfer('--tasks', 'knn') == 0
    before = results(tmp_path / 'out')
    broken, *_, spec = sorted(path for path in before if 'knn' in path.parts)
    good = json.loads(broken.read_text())['values']
    broken.write_bytes(broken.read_bytes()[:40])
    (spec.parent / experiment_dir.SPEC).write_text('[]')
    for path in before:
        if 'pictures' in path.parent.name:
            path.write_text('')
    capfd.readouterr()
    assert transfer('--tasks', 'knn') == 0
    printed = capfd.readouterr().out
    assert f'{broken} cannot be read' in printed
    assert str(spec.parent / experiment_dir.SPEC) in printed
    assert 'renamed to result.json.broken, the cell runs again' in printed
    assert '0 finished before' in printed
    assert json.loads(broken.read_text())['values'] == good
    assert results(tmp_path / 'out').keys() >= before.keys()


@pytest.mark.parametrize(('options', 'message'), [
    (dict(gpus='0,1', jobs=2), '--gpus and --jobs exclude each other'),
    (dict(gpus='0,,1'), 'expected numbers separated by commas'),
    (dict(gpus='1,1'), 'expected numbers separated by commas'),
    (dict(jobs=0), 'expected 1 or more'), (dict(slurm=['partition']), 'expected KEY=VALUE')])
def test_contradictory_options_are_refused(tmp_path, options: dict, message: str):
    given = dict(gpus=None, jobs=None, slurm=None) | options
    with pytest.raises(ValueError, match=message):
        select_executor([], tmp_path, given['gpus'], given['jobs'], given['slurm'])


@pytest.mark.parametrize(('named', 'expected'), [(None, ['0', '1']), ('4,7', ['4', '7']), ('4, GPU-a', ['4', 'GPU-a'])])
def test_by_default_all_gpus_are_used(tmp_path, monkeypatch, named: str | None, expected: list):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if named is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', named)
    executor = select_executor([Job('a', (tmp_path,))], tmp_path, None, None, None)
    assert isinstance(executor, LocalExecutor)
    assert executor.free_slots == expected
    assert executor.description == f'GPUs {", ".join(expected)}'
    on_cpus = select_executor([Job('a', (tmp_path,))] * 3, tmp_path, None, 2, None)
    assert isinstance(on_cpus, LocalExecutor)
    assert on_cpus.free_slots == ['', '']
    assert on_cpus.description.startswith('CPUs, up to 2 jobs')


def test_two_processes_do_not_plan_at_the_same_time(tmp_path, monkeypatch):
    def plan(_: object) -> None:
        with pytest.raises(Timeout):
            FileLock(tmp_path / 'out' / 'plan.lock', timeout=0).acquire()
        raise ValueError('locked while planning')
    monkeypatch.setattr(run, 'plan', plan)
    checkpoint = save_mae(tmp_path / 'mae.pth')
    with pytest.raises(ValueError, match='locked while planning'):
        run_transfer('quick', [str(checkpoint)], [], data_root=tmp_path, work_dir=tmp_path / 'out')


def test_a_single_job_has_all_cpus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('mae_backbone.transfer.run.available_cpus', lambda: 4)
    monkeypatch.setattr('mae_backbone.utils.cpu.available_cpus', lambda: 4)
    job = Job('a', (tmp_path,))
    executors = [select_executor([job] * number, tmp_path, None, None, None) for number in (1, 2, 9)]
    assert [executor.threads for executor in executors if isinstance(executor, LocalExecutor)] == [4, 2, 1]
