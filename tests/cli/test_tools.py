"""The tools as a person runs them, on a handful of generated scenes: the whole path, and the commonest mistakes."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mae_backbone.checkpoints.run_files import read_run, resume_path
from mae_backbone.data.decode import read_image
from mae_backbone.quickstart.scene_files import write_scenes

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs' / 'demo'
TASKS = {  # config, folder of the scenes that it takes, folder of its validation images
    'detection': ('quickstart_detection.py', '', 'images/val'),
    'segmentation': ('quickstart_segmentation.py', '', 'images/val'),
    'classification': ('quickstart_classification.py', 'classes', 'classes/val'),
}
FILES = {'detection': 'predictions.json', 'segmentation': 'areas.json', 'classification': 'scores.json'}
TWO_STEPS = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.logger.interval=1',
             'default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=4')
PRETRAIN = ('--cfg-options', *TWO_STEPS[:1], *TWO_STEPS[2:], 'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False')

pytestmark = pytest.mark.slow


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]


def run(name: str, *arguments: object, cwd: Path) -> str:
    """Runs a tool in a process of its own and returns what it printed."""
    done = start(name, *arguments, cwd=cwd)
    said = done.communicate(timeout=600)[0]
    assert done.returncode == 0, said[-3000:]
    return said


def refuse(name: str, *arguments: object, cwd: Path) -> str:
    """Runs a tool that must end in one message and exit code 2; returns the message."""
    done = start(name, *arguments, cwd=cwd)
    said = done.communicate(timeout=600)[0]
    assert done.returncode == 2, said[-3000:]
    assert 'Traceback' not in said
    return said[said.index('error: '):]


def start(name: str, *arguments: object, cwd: Path) -> subprocess.Popen:
    return subprocess.Popen(command(name, *arguments), cwd=cwd, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('tools') / 'scenes'
    write_scenes(root, unlabeled=12, train=16, val=16)
    return root


@pytest.fixture(scope='module')
def mae(scenes) -> Path:
    """A checkpoint of tools/pretrain.py after two steps."""
    work = scenes.parent / 'mae'
    said = run('pretrain', DEMO / 'quickstart_mae.py', '--data-root', scenes / 'unlabeled', '--work-dir', work,
               *PRETRAIN, cwd=scenes.parent)
    for wanted in ('M parameters', '12 images', 'effective batch 4', 'learning rate', 'device: ', 'results go to',
                   'eta: ', 'next: mae-backbone '):
        assert wanted in said
    assert not list(work.glob('*.part'))
    return work / 'iter_2.pth'


@pytest.mark.parametrize('task', TASKS)
def test_a_mae_becomes_a_model_that_is_tested_and_predicts(task, scenes, mae, tmp_path):
    config, folder, images = TASKS[task]
    data = ('--data-root', scenes / folder)
    said = run('train', DEMO / config, *data, '--pretrained', mae, '--work-dir', tmp_path / 'run', '--cfg-options',
               *TWO_STEPS, cwd=tmp_path)
    assert 'encoder tensors loaded' in said
    assert 'next: mae-backbone test' in said
    checkpoint = tmp_path / 'run' / 'iter_2.pth'

    trained = read_run(checkpoint)['state_dict']
    assert torch.isfinite(trained['backbone.blocks.0.attn.qkv.weight']).all()

    if task != 'detection':  # an untrained detector finds nothing, and says so for every class
        assert 'next: mae-backbone predict' in run('test', DEMO / config, checkpoint, *data, '--work-dir',
                                                      tmp_path / 'test', cwd=tmp_path)
    shown = sorted((scenes / images).rglob('*.jpg'))[0]
    (tmp_path / 'images').mkdir()
    shutil.copy(shown, tmp_path / 'images')
    (tmp_path / 'images' / 'cut.jpg').write_bytes(shown.read_bytes()[:200])
    said = run('predict', DEMO / config, checkpoint, tmp_path / 'images', '-o', tmp_path / 'out', *data, cwd=tmp_path)
    assert 'cut.jpg' in said
    assert 'skipped' in said
    assert read_image(tmp_path / 'out' / f'{shown.stem}.png').shape[1] >= 96
    assert isinstance(json.loads((tmp_path / 'out' / FILES[task]).read_text()), list)


def test_random_weights_are_those_that_a_training_starts_from(scenes, mae, tmp_path):
    said = run('test', DEMO / 'quickstart_classification.py', 'random', '--data-root', scenes / 'classes',
               '--cfg-options', 'model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={mae}',
               cwd=tmp_path)
    assert 'encoder tensors loaded' in said
    assert 'top1' in said
    assert 'next: ' not in said


def test_reconstructions_are_drawn(scenes, mae, tmp_path):
    run('visualize', DEMO / 'quickstart_mae.py', mae, scenes / 'unlabeled', '-o', tmp_path / 'seen.png', cwd=tmp_path)
    height, width, _ = read_image(tmp_path / 'seen.png').shape
    assert width > 3 * 192
    assert height > 8 * 192


def test_a_killed_pretraining_goes_on_where_it_was(scenes, tmp_path):
    arguments = (DEMO / 'quickstart_mae.py', '--data-root', scenes / 'unlabeled', '--work-dir', tmp_path / 'run',
                 '--resume', *PRETRAIN, 'train_cfg.max_iters=4')
    killed = start('pretrain', *arguments[:-1], 'train_cfg.max_iters=100000', cwd=tmp_path)
    deadline = time.time() + 300
    while not (tmp_path / 'run' / 'last_checkpoint').exists() and time.time() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    written = int(Path(resume_path('auto', tmp_path / 'run')).stem.removeprefix('iter_'))
    said = run('pretrain', *arguments[:-1], f'train_cfg.max_iters={written + 2}', cwd=tmp_path)
    assert f'resumes from {tmp_path / "run" / f"iter_{written}.pth"}' in said
    assert (tmp_path / 'run' / f'iter_{written + 2}.pth').exists()


def test_mistakes_are_refused_in_one_message(scenes, mae, tmp_path):
    detect, data = DEMO / 'quickstart_detection.py', ('--data-root', scenes)
    assert 'no_such' in refuse('train', detect, '--data-root', tmp_path / 'no_such', cwd=tmp_path)
    assert 'did you mean' in refuse('train', detect, *data, '--cfg-options', 'optim_wraper.lr=1', cwd=tmp_path)
    assert not (tmp_path / 'work_dirs').exists(), 'a refused run leaves nothing behind'

    wrong = refuse('train', DEMO / 'quickstart_classification.py', '--data-root', scenes / 'classes', '--pretrained',
                   mae, '--cfg-options', 'model.backbone.arch.width=48', *TWO_STEPS, cwd=tmp_path)
    assert 'width 96 (the model has 48)' in wrong
    assert 'does not fit' in refuse('test', detect, mae, *data, cwd=tmp_path)


def test_annotations_that_name_absent_images_are_refused(scenes, tmp_path):
    broken = tmp_path / 'broken'
    shutil.copytree(scenes, broken)
    file = broken / 'annotations' / 'instances_train.json'
    content = json.loads(file.read_text())
    content['images'][0]['file_name'] = 'gone.jpg'
    file.write_text(json.dumps(content))
    assert 'gone.jpg' in refuse('train', DEMO / 'quickstart_detection.py', '--data-root', broken, cwd=tmp_path)


def test_data_are_looked_through_before_a_training(scenes, tmp_path):
    detect = DEMO / 'quickstart_detection.py'
    said = run('check_data', detect, '--data-root', scenes, '-o', tmp_path / 'samples.png', '--samples', 3,
               cwd=tmp_path)
    for wanted in ('train: 16 images; width', 'val: 16 images', 'boxes, ', 'by area', 'nothing that keeps'):
        assert wanted in said
    assert read_image(tmp_path / 'samples.png').shape[0] > 2 * 256

    broken = tmp_path / 'broken'
    shutil.copytree(scenes, broken)
    sorted((broken / 'images' / 'train').glob('*.jpg'))[0].write_bytes(b'no image')
    assert 'cannot be read' in refuse('check_data', detect, '--data-root', broken, cwd=tmp_path)
