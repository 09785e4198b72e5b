"""From the command to the report, and wrong options."""
import json
import sys
from pathlib import Path

import pytest
import timm
import torch
from filelock import FileLock, Timeout
from helpers.class_folders import write_classes
from helpers.in_process import InProcessExecutor, forget_runs
from helpers.made_encoders import MADE_SUITE
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


def test_a_missing_package_of_a_peer_is_named_before_the_first_job(tmp_path, transfer, capfd, monkeypatch):
    monkeypatch.setattr(run, 'PEER_PACKAGES', {'resnet18': 'a_peer'})
    peer = "tasks = dict(peer=dict(peer='resnet18', compare_to='knn', minutes=0.001, data=['images'], seeds=[0]),\n"
    (tmp_path / 'suite.py').write_text((tmp_path / 'suite.py').read_text().replace('tasks = dict(', peer))
    assert transfer() == 2
    message = capfd.readouterr().err
    assert 'the peer resnet18 needs the package a_peer' in message
    assert 'python -m pip install a-peer`, or select other tasks with --tasks' in message
    assert results(tmp_path / 'out') == {}
    assert transfer('--tasks', 'knn') == 0


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


@pytest.mark.parametrize(('count', 'visible', 'message'), [
    (0, None, 'PyTorch finds no GPU on this machine'),
    (2, None, 'this machine has 2 GPUs, expected numbers from 0 to 1'), (2, '4,7', None)])
def test_gpus_that_do_not_exist_are_refused_before_their_jobs_run_on_a_cpu(
        tmp_path, monkeypatch, count: int, visible: str | None, message: str | None):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    if message is None:
        assert select_executor([], tmp_path, '4,7', None, None).description == 'GPUs 4, 7'
        return
    with pytest.raises(ValueError, match=f'--gpus 0,4: {message}'):
        select_executor([], tmp_path, '0, 4', None, None)


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


@pytest.fixture
def made(tmp_path, monkeypatch):
    """`mae-backbone transfer` on a suite that makes its encoders, in this process."""
    monkeypatch.setattr(run, 'select_executor', lambda *_: InProcessExecutor())
    monkeypatch.setattr(sys, 'argv', sys.argv)
    for name in ('one', 'two'):
        write_classes(tmp_path / 'data' / name, train=6, val=5)
    forget_runs()

    def command(text: str, *more: str) -> int:
        (tmp_path / 'suite.py').write_text(text)
        return main(['transfer', *map(str, (tmp_path / 'suite.py', '--data-root', tmp_path / 'data', '--work-dir',
                                            tmp_path / 'out', *more))])
    return command


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:.*found in sys.modules:RuntimeWarning')  # it runs in this process
@pytest.mark.filterwarnings('ignore:.*has been created, the method:UserWarning')  # several runs in one second
def test_a_suite_makes_its_encoders_and_reports_time_to_quality(tmp_path, made, capfd):
    text = MADE_SUITE.replace('length=4,\n', 'length=4, seeds=[0],\n').replace(
        "'default_hooks.checkpoint.interval': 2", "'default_hooks.checkpoint.interval': 2, 'train_cfg.val_interval': 2")
    options = ('--checkpoint', 'continued', '--data', 'two')
    assert made(text, *options) == 0
    out = tmp_path / 'out'
    record = json.loads((out / 'results.json').read_text(encoding='utf-8'))
    assert [made['key'] for made in record['made']] == ['mae/one', 'continued']
    assert record['made'][1]['minutes'] > record['made'][0]['minutes'] > 0, 'the first is part of the second'
    assert not (out / 'encoders' / 'mae' / 'two').exists(), 'nothing needs it'
    tunes = [cell for cell in record['cells'] if cell['task'] == 'tune']
    assert [cell['model'] for cell in tunes] == ['continued', 'random']
    for cell in tunes:
        curve = cell['curves']['top-1']
        assert [iteration for iteration, _, _ in curve] == [2, 4]
        assert curve[0][1] < curve[1][1] <= cell['minutes']
        assert curve[-1][2] == cell['values']['top-1']
    [time] = record['time_to_quality']
    assert (time['model'], time['reference'], time['minutes']) == ('continued', 'random', tunes[1]['minutes'])
    page = (out / 'report.html').read_text(encoding='utf-8')
    assert 'Time to quality' in page
    assert 'Encoders of the suite' in page
    assert 'Not drawn' not in page
    times = results(out)
    capfd.readouterr()
    assert made(text, *options) == 0
    assert '6 finished before' in capfd.readouterr().out
    assert results(out) == times


def test_cells_of_an_encoder_that_cannot_be_made_are_reported(tmp_path, made, capfd):
    text = MADE_SUITE.replace("'model.decoder_heads': 2", "'model.decoder_heads': 3")
    assert made(text, '--tasks', 'knn', '--data', 'one', '--length', '0.5') == 1
    printed = capfd.readouterr().out
    assert printed.count('not run because mae/one was not made: ') == 1
    assert '2 cells failed; the same command tries them again' in printed
    record = json.loads((tmp_path / 'out' / 'results.json').read_text(encoding='utf-8'))
    assert {cell['model'] for cell in record['cells']} == {'random'}, 'random weights need no encoder'
    assert sorted(record['failed']) == ['cells/knn/one/labels-1/seed-0/mae', 'encoders/mae/one']
    page = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
    assert 'The length of every training is 0.5 times the length in the suite' in page
    assert 'not run because mae/one was not made' in page


def test_a_suite_without_encoders_needs_a_checkpoint(tmp_path, capfd):
    assert main(['transfer', 'quick', '--data-root', str(tmp_path), '--work-dir', str(tmp_path / 'out')]) == 2
    assert 'the suite quick has no encoders to evaluate: pass --checkpoint' in capfd.readouterr().err
