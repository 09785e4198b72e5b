"""Worker: a cell has the value at the end of its training, wherever the training was killed."""
import json
import math
import os
import runpy
import signal
import sys
from pathlib import Path

import pytest
import torch
from helpers.class_folders import write_classes
from helpers.in_process import forget_runs
from helpers.transfer_cells import values, write_job, write_stub
from torch.distributed.elastic.multiprocessing.api import SignalException

from mae_backbone.cli import validate_run
from mae_backbone.transfer import experiment_dir, worker
from mae_backbone.transfer.encoders import file_fingerprint
from mae_backbone.transfer.environment import code_version, format_environment, hardware
from mae_backbone.utils.config_files import configs_root

SMALL = {'model.backbone.arch.width': 16, 'model.backbone.arch.depth': 1, 'model.backbone.arch.heads': 2,
         'train_dataloader.batch_size': 4, 'train_dataloader.dataset.image_size': 16,
         'val_dataloader.dataset.image_size': 16, 'model.backbone.image_size': 16, 'train_cfg.val_interval': 1,
         **{f'{split}_dataloader.{key}': value for split in ('train', 'val')
            for key, value in (('num_workers', 0), ('persistent_workers', False))}}
EPOCHS = ('demo/vit-micro_finetune_cifar10.py', SMALL | {'train_cfg.max_epochs': 2})
ITERATIONS = ('demo/vit-micro_finetune-iters_cifar10.py', SMALL | {
    'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 1})


@pytest.fixture
def stub(tmp_path, monkeypatch) -> Path:
    """Cells run the stub in this folder, in this process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker, 'PROGRAM', 'stub_program')
    monkeypatch.setattr(sys, 'argv', sys.argv)
    return write_stub(tmp_path)


def write_training(folder: Path, config: str, options: dict) -> None:
    experiment_dir.write_spec(folder, {
        'kind': 'train', 'config': config, 'data_root': str(write_classes(folder.parent / 'data', train=6, val=7)),
        'labels': 1.0, 'seed': 0, 'gpus': 1, 'amp': False, 'options': options,
        'metrics': {'accuracy/top1': 'top-1'}, 'scale': 1.0},
        {'checkpoint': None, 'config': str(configs_root() / config)})


def run(folder: Path) -> dict:
    forget_runs()
    worker.work([str(folder)])
    assert experiment_dir.read_error(folder) is None
    result = experiment_dir.read_result(folder)
    assert result is not None
    return result


def forget_last_validation(work: Path) -> None:
    """Removes the last value from the log, and makes the others wrong."""
    [log] = work.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    validated = [line for line in lines if 'accuracy/top1' in line]
    for line in validated:
        line['accuracy/top1'] = -1
    log.write_text('\n'.join(json.dumps(line) for line in lines if line is not validated[-1]) + '\n')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:.*found in sys.modules:RuntimeWarning')  # it runs in this process
@pytest.mark.filterwarnings('ignore:.*has been created, the method:UserWarning')  # two runs in one second
@pytest.mark.parametrize(('config', 'options'), [EPOCHS, ITERATIONS])
def test_a_training_that_was_killed_in_its_last_validation_is_validated_again(tmp_path, monkeypatch, config, options):
    monkeypatch.setattr(sys, 'argv', sys.argv)
    folder = tmp_path / 'cell'
    write_training(folder, config, options)
    values = run(folder)['values']
    assert 0 <= values['top-1'] <= 100
    (folder / experiment_dir.RESULT).unlink()
    forget_last_validation(folder / 'run')
    times = {path: path.stat().st_mtime_ns for path in (folder / 'run').glob('*.pth')}
    assert run(folder)['values'] == values
    assert times == {path: path.stat().st_mtime_ns for path in (folder / 'run').glob('*.pth')}, 'trained again'


def test_a_run_without_checkpoint_cannot_be_validated(tmp_path):
    data = write_classes(tmp_path / 'data')
    for reader in ([], ['--reader', 'mae_backbone.ColorReader', 'value_range=[0, 4095]']):
        with pytest.raises(ValueError, match='no checkpoint to validate'):
            validate_run.run([str(configs_root() / EPOCHS[0]), str(tmp_path), '--data-root', str(data), '--work-dir',
                              str(tmp_path / 'out'), *reader])


def test_a_metric_that_a_training_does_not_have_is_named(tmp_path, stub, monkeypatch):
    cell = write_job(tmp_path, 'a').folders[0]
    monkeypatch.setattr(worker, '_curves', lambda *_: {})
    monkeypatch.setattr(worker, '_validate', lambda *_: {'mIoU': 1.0})
    worker.work([str(cell)])
    error = experiment_dir.read_error(cell)
    assert error.startswith('the training has no accuracy/top1, it has mIoU: correct `metrics`')


def test_a_result_that_cannot_be_read_back_is_a_failure(tmp_path, stub, monkeypatch):
    """Otherwise the scheduler would run the cell again without end."""
    cell = write_job(tmp_path, 'a').folders[0]
    monkeypatch.setitem(worker._KINDS, 'train', lambda *_: {'values': {'top-1': '50'}})
    worker.work([str(cell)])
    assert 'result.json has values that are not numbers' in experiment_dir.read_error(cell)


@pytest.mark.parametrize(('small', 'values', 'notes'), [
    (-1.0, {'AP': 25.0}, ['without small AP, which is not defined: the validation images have no such objects']),
    (math.nan, {'AP': 25.0}, ['without small AP, which is not defined: the validation images have no such objects']),
    (0.0, {'AP': 25.0, 'small AP': 0.0}, [])])
def test_a_metric_without_objects_has_no_value(tmp_path, stub, small: float, values: dict, notes: list):
    """COCO's metrics are -1 or NaN then. The table would show -100 % or nan."""
    logged = json.dumps({'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_s': small, 'step': 1})
    write_stub(stub, f"""
logs = work / '2' / 'vis_data'
logs.mkdir(parents=True)
(logs / 'scalars.json').write_text('{logged}')
(work / 'cpu_time.jsonl').write_text('{{"iter": 1, "cpu_minutes": 2.0, "minutes": 2.0, "metrics": {logged}}}')
""")
    folder = tmp_path / 'cell'
    experiment_dir.write_spec(folder, {
        'kind': 'train', 'config': 'a.py', 'data_root': 'data', 'labels': 1.0, 'seed': 0, 'gpus': 1, 'amp': False,
        'options': {}, 'metrics': {'coco/bbox_mAP': 'AP', 'coco/bbox_mAP_s': 'small AP'}, 'scale': 100.0},
        {'checkpoint': None, 'config': 'a.py'})
    worker.work([str(folder)])
    result = experiment_dir.read_result(folder)
    assert (result['values'], result['notes'], result['curves'].keys()) == (values, notes, values.keys())


def test_the_message_of_an_exception_is_the_reason(tmp_path, stub):
    write_stub(stub, 'raise ValueError("what to do")')
    cell = write_job(tmp_path / 'out', 'a').folders[0]
    worker.work([str(cell)])
    assert experiment_dir.read_error(cell).startswith('what to do\n')


def test_a_cell_records_where_it_ran(tmp_path, stub):
    cell = write_job(tmp_path, 'a').folders[0]
    worker.work([str(cell)])
    environment = experiment_dir.read_result(cell)['environment']
    assert environment == code_version() | {'hardware': hardware()}
    assert environment['versions']['torch'] in format_environment(environment)


def test_a_cell_that_another_process_runs_is_passed_over(tmp_path, stub, capfd):
    job = write_job(tmp_path, 'a', cells=2)
    with experiment_dir.lock(job.folders[0]):
        worker.work([str(folder) for folder in job.folders])
    assert experiment_dir.read_result(job.folders[0]) is None
    assert values(job) == [51.0]
    assert 'another process works in' in capfd.readouterr().out


@pytest.mark.skipif(os.name == 'nt', reason='Windows ends a process without a signal')
def test_a_training_on_several_gpus_that_gets_a_signal_has_not_failed(tmp_path, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise SignalException('got a signal', sigval=signal.SIGTERM)
    monkeypatch.setattr(runpy, 'run_module', stopped)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    monkeypatch.setattr(sys, 'argv', [])
    job = write_job(tmp_path / 'out', 'a', gpus=2)
    with pytest.raises(SystemExit) as end:
        worker.work([str(job.folders[0])])
    assert end.value.code == 128 + signal.SIGTERM
    assert experiment_dir.read_error(job.folders[0]) is None


@pytest.mark.slow
def test_a_training_on_several_gpus_has_a_process_for_each(tmp_path, stub, monkeypatch):
    write_stub(stub, 'if os.environ["RANK"] == "1":\n    sys.exit()\n'
                     'print("processes", os.environ["WORLD_SIZE"], "model.backbone.init_cfg=None" in sys.argv)')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(stub), os.environ.get('PYTHONPATH', '')]))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    job = write_job(tmp_path / 'out', 'a', gpus=8)
    worker.work([str(job.folders[0])])
    assert values(job) == [50.0]
    assert 'processes 2 True' in (job.folders[0] / experiment_dir.LOG).read_text()


def test_fewer_gpus_than_the_suite_asks_for_are_noted(tmp_path, stub, monkeypatch):
    """The batches of all GPUs together are smaller, so that the learning rate may be too large."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    for gpus in (1, 8):
        [folder] = write_job(tmp_path / f'out{gpus}', 'a', gpus=gpus).folders
        worker.work([str(folder)])
        assert experiment_dir.read_result(folder)['notes'] == (['trained by 1 process instead of 8: all batches of a '
                                                                'step together are smaller'] if gpus == 8 else [])


def test_a_training_gets_the_reader_of_its_encoder(tmp_path, stub):
    write_stub(stub, 'start = sys.argv.index("--reader")\n'
                     '(root / "seen").write_text(" ".join(sys.argv[start + 1:start + 3]))')
    folder = write_job(tmp_path / 'out', 'a').folders[0]
    spec = experiment_dir.read_spec(folder)
    reader = {'type': 'mae_backbone.ColorReader', 'value_range': [0, 4095]}
    (folder / experiment_dir.SPEC).write_text(json.dumps(spec | {'reader': reader}))
    worker.work([str(folder)])
    assert (stub / 'seen').read_text() == 'mae_backbone.ColorReader value_range=[0, 4095]'


def test_a_checkpoint_that_was_replaced_after_the_start_is_no_result(tmp_path, stub):
    checkpoint = tmp_path / 'mae.pth'
    checkpoint.write_bytes(b'planned')
    job = write_job(tmp_path / 'out', 'a', cells=2)
    for folder in job.folders:
        spec = experiment_dir.read_spec(folder)
        where = spec.pop('where') | {'checkpoint': str(checkpoint)}
        (folder / experiment_dir.SPEC).unlink()
        experiment_dir.write_spec(folder, spec | {'weights': file_fingerprint(checkpoint)}, where)
    worker.work([str(job.folders[0])])
    checkpoint.write_bytes(b'later')
    worker.work([str(job.folders[1])])
    assert experiment_dir.read_result(job.folders[0]) is not None
    assert 'mae.pth was replaced after the suite had started' in experiment_dir.read_error(job.folders[1])


def test_an_encoder_that_was_killed_is_continued_and_kept(tmp_path, stub):
    write_stub(stub, """
import torch
work.mkdir(parents=True, exist_ok=True)
assert sys.argv[1] == 'pretrain' and '--amp' in sys.argv
assert arguments['--resume'] == 'auto' and arguments['--iters'] == '3'
if not (work / 'iter_2.pth').exists():
    torch.save({'state_dict': {'a': torch.ones(1)}, 'meta': {'iter': 2, 'epoch': 0}}, work / 'iter_2.pth')
    sys.exit(143)
torch.save({'state_dict': {'a': torch.zeros(1)}, 'meta': {'iter': 3, 'epoch': 0}}, work / 'iter_3.pth')
logs = work / '0' / 'vis_data'
logs.mkdir(parents=True)
(logs / 'scalars.json').write_text('{"loss": 0.5, "step": 3}')
(work / 'cpu_time.jsonl').write_text('{"iter": 3, "cpu_minutes": 1.5, "minutes": 2.0, "metrics": {}}')
""")
    folder = tmp_path / 'encoders' / 'mae'
    experiment_dir.write_spec(folder, {
        'kind': 'encoder', 'command': 'pretrain', 'config': 'mae.py', 'options': {}, 'data_root': 'data', 'seed': 0,
        'start': None, 'amp': True, 'length': ['--iters', '3']}, {'config': 'mae.py', 'start': None, 'name': 'mae'})
    with pytest.raises(SystemExit):
        worker.work([str(folder)])
    assert experiment_dir.read_result(folder) is None
    assert experiment_dir.read_error(folder) is None, 'a signal is no failure'
    worker.work([str(folder)])
    result = experiment_dir.read_result(folder)
    assert (result['values'], result['cpu_minutes']) == ({'loss': 0.5}, 1.5)
    assert torch.load(folder / 'encoder.pth', weights_only=True)['meta']['iter'] == 3
    (folder / 'encoder.pth').unlink()
    assert experiment_dir.read_result(folder) is None, 'an encoder that is gone is made again'
    assert 'encoder.pth, which does not exist' in experiment_dir.set_aside_broken(folder)
