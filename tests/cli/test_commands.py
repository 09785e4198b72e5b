"""Commands on a handful of generated scenes: the whole path, and the most common mistakes."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import refused, run_command

import mae_backbone
from mae_backbone.checkpoints.run_files import read_run, resume_path
from mae_backbone.data.decode import read_image
from mae_backbone.prediction.typed_results import draw_reconstructions
from mae_backbone.quickstart.scene_files import write_scenes
from mae_backbone.utils.image_grid import save_picture

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


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('tools') / 'scenes'
    write_scenes(root, unlabeled=12, train=16, val=16)
    return root


@pytest.fixture(scope='module')
def mae(scenes) -> Path:
    """A checkpoint of `mae-backbone pretrain` after two steps."""
    work = scenes.parent / 'mae'
    printed = run_command('pretrain', DEMO / 'quickstart_mae.py', '--data-root', scenes / 'unlabeled', '--work-dir',
                          work, *PRETRAIN)
    for wanted in ('M parameters', '12 images', 'effective batch 4', 'learning rate', 'device: ', 'results go to',
                   'eta: ', 'next: mae-backbone '):
        assert wanted in printed
    assert not list(work.glob('*.part'))
    return work / 'iter_2.pth'


@pytest.mark.parametrize('task', TASKS)
def test_pretrained_encoder_becomes_a_model_that_is_tested_and_predicts(task, scenes, mae, tmp_path):
    config, folder, images = TASKS[task]
    data = ('--data-root', scenes / folder)
    printed = run_command('train', DEMO / config, *data, '--pretrained', mae, '--work-dir', tmp_path / 'run',
                          '--cfg-options', *TWO_STEPS)
    assert 'tensors of the encoder, from' in printed
    assert 'next: mae-backbone test' in printed
    checkpoint = tmp_path / 'run' / 'iter_2.pth'

    trained = read_run(checkpoint)['state_dict']
    assert torch.isfinite(trained['backbone.blocks.0.attn.qkv.weight']).all()

    if task != 'detection':  # an untrained detector finds nothing, and says so for every class
        printed = run_command('test', DEMO / config, checkpoint, *data, '--work-dir', tmp_path / 'test')
        assert 'next: mae-backbone predict' in printed
    shown = sorted((scenes / images).rglob('*.jpg'))[0]
    (tmp_path / 'images').mkdir()
    shutil.copy(shown, tmp_path / 'images')
    (tmp_path / 'images' / 'cut.jpg').write_bytes(shown.read_bytes()[:200])
    printed = run_command('predict', DEMO / config, checkpoint, tmp_path / 'images', '-o', tmp_path / 'out', *data)
    assert 'cut.jpg' in printed
    assert 'skipped' in printed
    assert read_image(tmp_path / 'out' / f'{shown.stem}.png').shape[1] >= 96
    assert isinstance(json.loads((tmp_path / 'out' / FILES[task]).read_text()), list)
    check_that_the_file_alone_is_enough(task, checkpoint, scenes / folder, tmp_path)


def check_that_the_file_alone_is_enough(task: str, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    """In another folder, without config and data, it predicts the same from the command line and in Python."""
    moved = tmp_path / 'elsewhere' / 'model.pth'
    moved.parent.mkdir()
    shutil.copy(checkpoint, moved)
    images, written = tmp_path / 'images', json.loads((tmp_path / 'out' / FILES[task]).read_text())
    run_command('predict', moved, images, '-o', tmp_path / 'with_data', '--data-root', data)
    assert json.loads((tmp_path / 'with_data' / FILES[task]).read_text()) == written
    run_command('predict', moved, images, '-o', tmp_path / 'alone', '--batch-size', 2)
    alone = json.loads((tmp_path / 'alone' / FILES[task]).read_text())
    figures = sorted(path.relative_to(tmp_path / 'alone') for path in (tmp_path / 'alone').rglob('*.png'))
    assert figures == sorted(path.relative_to(tmp_path / 'out') for path in (tmp_path / 'out').rglob('*.png'))

    model = mae_backbone.load(moved)
    result, = [model.predict(path) for path in images.iterdir() if path.name != 'cut.jpg']
    if task == 'detection':
        assert result.to_coco() == alone
    elif task == 'segmentation':
        assert alone == [{'file_name': result.path.name, 'width': result.size[1], 'height': result.size[0],
                          **result.areas()}]
    else:
        assert alone[0]['scores'] == {name: round(score, 5) for name, score in result.probabilities.items()}
    figure = next(path for path in figures if path.parent == Path())
    assert (result.draw() == read_image(tmp_path / 'alone' / figure)).all()

    page = run_command('info', moved)
    for wanted in (f'task      {task}', 'classes ', 'pixels    mean', 'iteration 2', 'versions  python', 'optimizer',
                   f'positions for images of {model.encoder.grid[0] * model.encoder.patch_size}x'):
        assert wanted in page
    if task != 'detection':  # an untrained detector finds nothing
        assert 'train_loss' in page
        printed = run_command('test', moved, '--data-root', data, '--work-dir', tmp_path / 'test_alone')
        assert f'next: mae-backbone predict {moved} IMAGE' in printed
        assert metrics_in(printed) == metrics_in(run_command('test', DEMO / TASKS[task][0], checkpoint, '--data-root',
                                                             data, '--work-dir', tmp_path / 'test_config'))

    run_command('publish', moved, tmp_path / 'model.safetensors')
    assert (tmp_path / 'model.safetensors').stat().st_size < 0.6 * moved.stat().st_size, 'the optimizer is left out'
    run_command('predict', tmp_path / 'model.safetensors', images, '-o', tmp_path / 'published')
    assert json.loads((tmp_path / 'published' / FILES[task]).read_text()) == alone
    page = run_command('info', tmp_path / 'model.safetensors')
    assert f'task      {task}' in page
    assert 'optimizer' not in page
    config = run_command('info', tmp_path / 'model.safetensors', '--show-config')
    assert str(tmp_path) not in '\n'.join(page.splitlines()[1:]) + config
    assert model.classes[0] in (tmp_path / 'model.md').read_text()


def metrics_in(printed: str) -> list[str]:
    return re.findall(r'^[\w/]+: [\d.e+-]+$', printed, re.M)


def test_random_weights_equal_the_start_of_a_training(scenes, mae, tmp_path):
    printed = run_command('test', DEMO / 'quickstart_classification.py', 'random', '--data-root', scenes / 'classes',
               '--cfg-options', 'model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={mae}')
    assert 'tensors of the encoder, from' in printed
    assert 'top1' in printed
    assert 'next: ' not in printed


def test_reconstructions_are_drawn(scenes, mae, tmp_path):
    run_command('visualize', DEMO / 'quickstart_mae.py', mae, scenes / 'unlabeled', '-o', tmp_path / 'seen.png')
    moved = shutil.copy(mae, tmp_path / 'model.pth')
    run_command('visualize', moved, scenes / 'unlabeled', '-o', tmp_path / 'alone.png')
    assert (tmp_path / 'alone.png').read_bytes() == (tmp_path / 'seen.png').read_bytes()
    results = mae_backbone.load(moved).reconstruct_whole(scenes / 'unlabeled', batch_size=3)
    assert len(results) == 12
    save_picture(str(tmp_path / 'api.png'), draw_reconstructions(results[:8]))
    assert (read_image(tmp_path / 'api.png') == read_image(tmp_path / 'seen.png')).all()
    height, width, _ = read_image(tmp_path / 'seen.png').shape
    assert width > 3 * 192
    assert height > 8 * 192
    wide = np.random.default_rng(0).integers(0, 256, (40, 100, 3), np.uint8)
    whole = mae_backbone.load(moved).reconstruct_whole(wide)
    assert whole.original.shape[1] / whole.original.shape[0] == pytest.approx(2.5, abs=0.05), 'its own aspect ratio'
    assert whole.original.shape == whole.reconstruction.shape
    run_command('visualize', moved, scenes / 'unlabeled', '--squeeze', '-o', tmp_path / 'squeezed.png')


def test_killed_pretraining_continues_where_it_was(scenes, tmp_path):
    """Started by its file in tools/, as launchers such as torchrun do."""
    arguments = [DEMO / 'quickstart_mae.py', '--data-root', scenes / 'unlabeled', '--work-dir', tmp_path / 'run',
                 '--resume', *PRETRAIN]
    tool = ROOT / 'tools' / 'pretrain.py'
    killed = subprocess.Popen([sys.executable, tool, *arguments, 'train_cfg.max_iters=100000'],
                              env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.time() + 300
    while not (tmp_path / 'run' / 'last_checkpoint').exists() and time.time() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    written = int(Path(resume_path('auto', tmp_path / 'run')).stem.removeprefix('iter_'))
    printed = run_command('pretrain', *arguments, f'train_cfg.max_iters={written + 2}')
    assert f'resumes from {tmp_path / "run" / f"iter_{written}.pth"}' in printed
    assert (tmp_path / 'run' / f'iter_{written + 2}.pth').exists()


def test_mistakes_are_refused_with_one_message(scenes, mae, tmp_path):
    detect, data = DEMO / 'quickstart_detection.py', ('--data-root', scenes)
    assert 'no_such' in refused('train', detect, '--data-root', tmp_path / 'no_such')
    assert 'did you mean' in refused('train', detect, *data, '--cfg-options', 'optim_wraper.lr=1')
    assert not (tmp_path / 'work_dirs').exists(), 'a refused run leaves nothing behind'

    wrong = refused('train', DEMO / 'quickstart_classification.py', '--data-root', scenes / 'classes', '--pretrained',
                   mae, '--cfg-options', 'model.backbone.arch.width=48', *TWO_STEPS)
    assert 'width 96 (the model has 48)' in wrong
    assert 'does not fit' in refused('test', detect, mae, *data)


def test_commands_refuse_checkpoints_and_folders_of_another_kind(scenes, mae):
    detect, data = DEMO / 'quickstart_detection.py', ('--data-root', scenes)
    for arguments in ((mae,), (mae, *data), (DEMO / 'quickstart_mae.py', mae)):
        assert 'has no test_dataloader and no test_cfg and no test_evaluator' in refused('test', *arguments)
        assert 'has no test_dataloader' in refused('robustness', *arguments)
    assert 'is for detection, and robustness is measured for classifiers' in refused('robustness', detect, mae, *data)
    assert 'expected an integer of 0 or more' in run_command('robustness', detect, mae, '--workers=-1', code=2)
    assert f'pass one of its files, such as {mae}' in refused(
        'pretrain', DEMO / 'quickstart_mae.py', '--data-root', scenes / 'unlabeled', '--resume', mae.parent)


def test_annotations_of_missing_images_are_refused(scenes, tmp_path):
    broken = tmp_path / 'broken'
    shutil.copytree(scenes, broken)
    file = broken / 'annotations' / 'instances_train.json'
    content = json.loads(file.read_text())
    content['images'][0]['file_name'] = 'gone.jpg'
    file.write_text(json.dumps(content))
    assert 'gone.jpg' in refused('train', DEMO / 'quickstart_detection.py', '--data-root', broken)


def test_check_counts_and_draws_and_refuses_damaged_images(scenes, tmp_path):
    detect = DEMO / 'quickstart_detection.py'
    printed = run_command('check', detect, '--data-root', scenes, '-o', tmp_path / 'samples.png', '--samples', 3)
    for wanted in ('train: 16 images, ', 'train: 16 images; width', 'val: 16 images', 'boxes, ', 'by area',
                   'the data can be used for training'):
        assert wanted in printed
    assert read_image(tmp_path / 'samples.png').shape[0] > 2 * 256

    broken = tmp_path / 'broken'
    shutil.copytree(scenes, broken)
    sorted((broken / 'images' / 'train').glob('*.jpg'))[0].write_bytes(b'no image')
    assert 'cannot be read' in refused('check', detect, '--data-root', broken)
