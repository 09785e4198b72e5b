"""Commands as functions of Python: a training that leaves the process as it was, and the model that it gives."""
import logging
import os
import random
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

import mae_backbone
from mae_backbone.cli.auto_steps import AutoRun
from mae_backbone.cli.main import COMMANDS
from mae_backbone.cli.python_api import DEFAULT_CONFIGS, TrainingRun, unchanged_process
from mae_backbone.hooks.preemption import Interrupted, PreemptionHook
from mae_backbone.prediction.model import Classifier, MaskedAutoencoder
from mae_backbone.quickstart.scene_files import write_scenes
from mae_backbone.utils.config_files import configs_root, find_config

DEMO = configs_root() / 'demo'
SHORT = {'default_hooks.logger.interval': 1, 'default_hooks.checkpoint.interval': 1,
         'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}


def state() -> tuple:
    loggers = [logging.getLogger(), logging.getLogger('mae_backbone')]
    return (torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate(), torch.get_num_threads(),
            dict(os.environ), [(list(log.handlers), log.level, log.propagate) for log in loggers],
            dict(DefaultScope._instance_dict), dict(Visualizer._instance_dict))


@pytest.mark.slow  # two trainings of two steps
def test_a_pretraining_and_a_training_leave_the_process_as_it_was(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / 'scenes', unlabeled=12, train=16, val=16)
    before = state()
    mae = mae_backbone.pretrain(tmp_path / 'scenes/unlabeled', config=DEMO / 'quickstart_mae.py', iters=2, batch_size=4,
                                seed=5, cfg_options=SHORT)
    assert state() == before
    assert mae.checkpoint == tmp_path / 'work_dirs/quickstart_mae/iter_2.pth'
    assert np.isfinite(mae.results['train_loss'])
    assert isinstance(mae.load(), MaskedAutoencoder)

    trained = mae_backbone.train(tmp_path / 'scenes/classes', config=DEMO / 'quickstart_classification.py', iters=2,
                                 pretrained=mae.checkpoint, batch_size=4, work_dir='run', cfg_options=SHORT)
    assert state() == before
    model = trained.load()
    assert isinstance(model, Classifier)
    assert model.predict(tmp_path / 'scenes/images/val')[0].name in model.classes
    metrics = mae_backbone.evaluate(trained.checkpoint, tmp_path / 'scenes/classes')
    assert state() == before
    assert metrics['accuracy/top1'] == trained.results['accuracy/top1']
    assert mae_backbone.info(trained.checkpoint).results_iter == 2, 'the best one is saved after its validation'


@pytest.mark.parametrize(('call', 'message'), [
    (lambda: mae_backbone.train('data'), "task='detection'"),
    (lambda: mae_backbone.train('data', task='detection', config='x'), 'either a task or a config'),
    (lambda: mae_backbone.train('data', task='pretraining'), "expected 'detection'"),
    (lambda: mae_backbone.train('no_such', task='detection', batch_size=0), '--batch-size'),
    (lambda: mae_backbone.train('no_such', task='detection', batchsize=4),
     "train has no option 'batchsize': did you mean 'batch_size'?"),
    (lambda: mae_backbone.run_command('predict', 'a.pth', 'x.png', outt='o'), "no option 'outt': did you mean 'out'?"),
    (lambda: mae_backbone.run_command('predict', 'a.pth', 'x.png'), 'checkpoint a.pth does not exist'),  # no CONFIG
    (lambda: mae_backbone.run_command('predict', '-a.pth', 'x.png', out='o'), 'checkpoint -a.pth does not exist'),
    (lambda: mae_backbone.train('no_such', task='detection'), 'no_such'),
    (lambda: mae_backbone.pretrain('no_such', epochs=1, iters=1), 'not allowed with'),
    (lambda: mae_backbone.pretrain('no_such'), 'no_such'),
    (lambda: mae_backbone.run_command('no_such'), "no command 'no_such'"),
    (lambda: mae_backbone.run_command('predict'), 'required'),
])
def test_mistakes_raise_what_the_command_line_prints(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = state()
    with pytest.raises((ValueError, OSError), match=message):
        call()
    assert state() == before
    assert os.listdir() == []


def test_every_command_can_be_called(monkeypatch, tmp_path):
    called = []
    for name in COMMANDS:
        monkeypatch.setattr(f'mae_backbone.cli.{name}.run', lambda args, name=name: called.append(name))
    mae_backbone.run_command('predict', 'model.pth', 'model.pth', '-1.png', out=tmp_path, tta=True, tile=64)
    mae_backbone.run_command('robustness', 'c', 'model.pth', 'a', 'b', corrupt=['fog', 'snow'], data_root=None)
    assert called == ['predict', 'robustness']


def test_default_recipes_exist():
    assert all(find_config(name).is_file() for name in DEFAULT_CONFIGS.values())


def test_the_state_is_restored_after_an_error():
    before = state()

    def change() -> None:
        with unchanged_process():
            torch.manual_seed(3)
            os.environ['MAE_BACKBONE_TEST'] = '1'
            logging.getLogger('mae_backbone').handlers = []
            raise KeyError
    with pytest.raises(KeyError):
        change()
    assert state() == before


def test_handlers_of_a_run_that_was_stopped_by_a_signal_do_not_stay():
    before = signal.getsignal(signal.SIGINT)
    hook = PreemptionHook()

    def stop() -> None:
        with unchanged_process():
            hook.before_train(None)
            raise Interrupted(signal.SIGINT)
    with pytest.raises(Interrupted):
        stop()
    assert signal.getsignal(signal.SIGINT) is before


def test_data_functions_return_what_the_commands_find(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_scenes(tmp_path / 'scenes', unlabeled=0, train=8, val=8)
    before = state()
    report = mae_backbone.import_data(tmp_path / 'scenes', tmp_path / 'yolo', to='yolo')
    assert len(list((tmp_path / 'yolo').rglob('*.jpg'))) == 16
    assert all(line in capsys.readouterr().out for line in report.lines[:1])
    images = tmp_path / 'scenes/images/train'
    pixels = mae_backbone.measure(images, reader={'type': 'mae_backbone.ColorReader', 'value_range': (0, 4095)})
    stacked = np.concatenate([cv2.imread(str(path)).reshape(-1, 3) for path in images.iterdir()])[:, ::-1]
    np.testing.assert_allclose(pixels.mean, stacked.mean(0), atol=1e-3)
    assert mae_backbone.measure(images, images=1).images == 1
    manifest = mae_backbone.pack(images, tmp_path / 'shards', short_side=32, workers=1, verify=True)
    assert manifest['images'] == 8
    assert state() == before
    with pytest.raises(ValueError, match='exists and is not empty'):
        mae_backbone.import_data(tmp_path / 'scenes', tmp_path / 'yolo', to='yolo')
    with pytest.raises(ValueError, match='invalid choice'):
        mae_backbone.import_data(tmp_path / 'scenes', tmp_path / 'other', to='excel')


def test_auto_returns_its_last_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def do_steps(run: AutoRun) -> dict[str, float]:
        run.checkpoint = run.folder / 'train' / 'best.pth'
        return {'accuracy/top1': 50.0}
    monkeypatch.setattr(AutoRun, 'run', do_steps)
    run = mae_backbone.auto('data', hours=0.1, work_dir=tmp_path / 'run')
    assert run == TrainingRun(tmp_path / 'run', tmp_path / 'run/train/best.pth', {'accuracy/top1': 50.0})


def test_every_command_has_a_function():
    functions = {'import': 'import_data', 'test': 'evaluate', 'models': 'public_weights', 'predict': 'load',
                 'visualize': 'load'}
    for name in {*COMMANDS} - {'quickstart', 'check', 'demo', 'transfer', 'robustness', 'benchmark'}:
        assert callable(getattr(mae_backbone, functions.get(name, name)))
