"""A training in a cell: its value is that of its end, wherever it was killed."""
import json
import os
import subprocess
from pathlib import Path

import pytest
from helpers.class_folders import write_classes
from helpers.transfer_cells import write_job, write_tool

from mae_backbone.cli import validate_run
from mae_backbone.transfer import experiment_dir, worker
from mae_backbone.transfer.environment import code, hardware, in_words
from mae_backbone.transfer.executors import Job

ROOT = Path(__file__).parents[2]
SMALL = {'model.backbone.arch.width': 16, 'model.backbone.arch.depth': 1, 'model.backbone.arch.heads': 2,
         'train_dataloader.batch_size': 4, 'train_dataloader.dataset.image_size': 16,
         'val_dataloader.dataset.image_size': 16, 'model.backbone.image_size': 16, 'train_cfg.val_interval': 1}
EPOCHS = ('demo/vit-micro_finetune_cifar10.py', SMALL | {'train_cfg.max_epochs': 2})
ITERATIONS = ('demo/vit-micro_finetune-iters_cifar10.py', SMALL | {
    'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 1})


def write_training(folder: Path, config: str, options: dict, gpus: int) -> None:
    experiment_dir.write_spec(folder, {
        'kind': 'train', 'config': config, 'data_root': str(write_classes(folder.parent / 'data', val=13)),
        'labels': 1.0, 'seed': 0, 'gpus': gpus, 'amp': False, 'options': options,
        'metrics': {'accuracy/top1': 'top-1'}, 'scale': 1.0}, {'root': str(ROOT), 'checkpoint': None})


def run(folder: Path, gpus: int) -> dict:
    """A job on CPUs in as many processes as `gpus`: what came of its cell."""
    numbers = ','.join(map(str, range(gpus)))
    subprocess.run(Job('a', (folder,)).command, check=True, env=os.environ | {'CUDA_VISIBLE_DEVICES': numbers})
    assert experiment_dir.error_of(folder) is None
    return experiment_dir.result_of(folder)


def forget_last_validation(work: Path) -> None:
    """Takes the last value out of the log, and makes the others wrong."""
    [log] = work.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    validated = [line for line in lines if 'accuracy/top1' in line]
    for line in validated:
        line['accuracy/top1'] = -1
    log.write_text('\n'.join(json.dumps(line) for line in lines if line is not validated[-1]) + '\n')


@pytest.mark.slow
@pytest.mark.parametrize(('config', 'options', 'gpus'), [(*EPOCHS, 1), (*ITERATIONS, 2)])
def test_a_training_that_is_killed_in_its_last_validation_is_validated_again(tmp_path, config, options, gpus: int):
    folder = tmp_path / 'cell'
    write_training(folder, config, options, gpus)
    values = run(folder, gpus)['values']
    assert 0 <= values['top-1'] <= 100
    (folder / experiment_dir.RESULT).unlink()
    forget_last_validation(folder / 'run')
    times = {path: path.stat().st_mtime_ns for path in (folder / 'run').glob('*.pth')}
    assert run(folder, gpus)['values'] == values
    assert times == {path: path.stat().st_mtime_ns for path in (folder / 'run').glob('*.pth')}, 'trained again'


def test_without_a_checkpoint_nothing_is_validated(tmp_path):
    data = write_classes(tmp_path / 'data')
    with pytest.raises(ValueError, match='no checkpoint to validate'):
        validate_run.run([str(ROOT / 'configs' / EPOCHS[0]), str(tmp_path), '--data-root', str(data), '--work-dir',
                          str(tmp_path / 'out')])


def test_a_metric_that_a_training_does_not_have_is_named(tmp_path, monkeypatch):
    cell = write_job(tmp_path, write_tool(tmp_path), 'a').folders[0]
    monkeypatch.setattr(worker, '_curves', lambda *_: {})
    monkeypatch.setattr(worker, '_validate', lambda *_: {'mIoU': 1.0})
    worker.work([str(cell)])
    assert experiment_dir.error_of(cell).startswith('the training has no accuracy/top1: it has mIoU; correct `metrics`')


def test_a_cell_notes_where_it_ran(tmp_path):
    cell = write_job(tmp_path, write_tool(tmp_path), 'a').folders[0]
    worker.work([str(cell)])
    found = experiment_dir.result_of(cell)['environment']
    assert found == code(tmp_path) | {'hardware': hardware()}
    assert found['commit'] is None, 'no git clone'
    assert found['versions']['torch'] in in_words(found)
