"""Images of any number of channels go through all tasks: check, training, prediction from the checkpoint alone."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.band_sets import Save, save_npy, save_png, save_tiff, write_set
from helpers.commands import refused, run_command

import mae_backbone
from mae_backbone.checkpoints.run_files import read_run

CONFIGS = {'detection': 'faster-rcnn_vit-micro_nuclei', 'segmentation': 'upernet_vit-micro_camvid',
           'classification': 'vit-micro_finetune-iters_cifar10'}
TINY = ('train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False', 'train_dataloader.batch_size=2', 'default_hooks.plots=None')
CASES = {'detection': (save_npy, np.uint16), 'segmentation': (save_tiff, np.uint8),
         'classification': (save_npy, np.uint16)}

pytestmark = pytest.mark.slow


def options(task: str, root: Path, work_dir: Path, save: Save, channels: int, dtype: type) -> list:
    kind = 'TiffReader' if save is save_tiff else 'ArrayReader'
    reader = [] if save is save_png else ['--reader', f'mae_backbone.{kind}', f'channels={channels}',
                                          f'dtype={np.dtype(dtype).name}', 'shown=[2,1,0]']
    suffix = ['train_dataloader.dataset.img_suffix=.png', 'val_dataloader.dataset.img_suffix=.png',
              'test_dataloader.dataset.img_suffix=.png'] if task == 'segmentation' and save is save_png else []
    crop = ['train_dataloader.dataset.pipeline.3.crop_size=(48,48)'] if task != 'classification' else []
    return [CONFIGS[task], '--data-root', root, *reader, '--work-dir', work_dir, '--iters', '2', '--cfg-options', *TINY,
            *suffix, *crop]


@pytest.mark.parametrize('task', CONFIGS)
def test_five_bands_are_trained_on_and_predicted_from_the_checkpoint(task: str, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save, dtype = CASES[task]
    images = write_set(task, tmp_path / 'data', save, channels=5, dtype=dtype)
    given = options(task, tmp_path / 'data', tmp_path / 'run', save, 5, dtype)
    printed = run_command('train', *given)
    bits = 8 * np.dtype(dtype).itemsize
    assert f'images: 5 channels with {bits} bits' in printed
    assert 'normalization: measured on 4 of 4 training images' in printed
    assert ('PhotoMetricDistortion' in printed) == (task == 'segmentation'), 'what is left out is said'
    checkpoint = tmp_path / 'run' / 'iter_2.pth'
    weights = read_run(checkpoint)['state_dict']
    assert weights['backbone.patch_embed.proj.weight'].shape[1] == 5
    assert cv2.imread(str(tmp_path / 'run' / 'validation' / 'iter_2.jpg')) is not None

    run_command('predict', checkpoint, images, '-o', tmp_path / 'out', '--threshold', '0')
    assert cv2.imread(str(next((tmp_path / 'out').rglob('0.png')))).shape[0] >= 48
    model = mae_backbone.load(checkpoint)
    stored = np.load(images / '0.npy') if task == 'detection' else None
    if stored is not None:
        result, again = model.predict(images / '0.npy', threshold=0.0), model.predict(stored, threshold=0.0)
        assert np.array_equal(result.boxes, again.boxes), 'a file or an array'
        assert result.draw().shape[2] == 3
    with pytest.raises(ValueError, match='pass the channels that the model was trained with'):
        model.predict(np.zeros((48, 48, 3), np.uint8))
    metrics = run_command('test', checkpoint, '--data-root', tmp_path / 'data', *(
        ['--tta'] if task == 'detection' else []))
    assert ': ' in metrics


@pytest.mark.parametrize('task', CONFIGS)
def test_three_bands_of_eight_bits_are_trained_on_as_the_same_image_files(task: str, tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    losses = []
    for save in (save_png, save_npy):
        root, work_dir = tmp_path / f'data{len(losses)}', tmp_path / f'run{len(losses)}'
        write_set(task, root, save, channels=3)
        run_command('train', *options(task, root, work_dir, save, 3, np.uint8), 'val_cfg=None', 'val_dataloader=None',
                    'val_evaluator=None')
        history = read_run(work_dir / 'iter_2.pth')['message_hub']['log_scalars']['train/loss']
        losses.append(history.data[0].tolist())
    assert losses[0] == losses[1]


def test_pretrained_three_channels_start_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    from mae_backbone.core.vit import ViT
    encoder = ViT(dict(width=128, depth=6, heads=4), image_size=32, patch_size=4)
    torch.save(encoder.state_dict(), tmp_path / 'rgb.pth')
    write_set('classification', tmp_path / 'data', save_npy, channels=5, dtype=np.uint16)
    given = options('classification', tmp_path / 'data', tmp_path / 'run', save_npy, 5, np.uint16)
    run_command('train', *given, 'optim_wrapper.optimizer.lr=1e-9', '--pretrained', tmp_path / 'rgb.pth',
                '--weights-heads', '4')
    weights = read_run(tmp_path / 'run' / 'iter_2.pth')['state_dict']['backbone.patch_embed.proj.weight']
    ours = encoder.state_dict()['patch_embed.proj.weight']
    assert torch.allclose(weights, ours[:, [0, 1, 2, 0, 1]] * 3 / 5, atol=1e-6)


def test_check_and_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_set('detection', tmp_path / 'data', save_npy, channels=5)
    reader = ['--reader', 'mae_backbone.ArrayReader', 'channels=5']
    printed = run_command('check', CONFIGS['detection'], '--data-root', tmp_path / 'data', *reader)
    assert 'the data can be used for training' in printed
    assert cv2.imread(str(tmp_path / 'samples.png')) is not None
    wrong = refused('train', CONFIGS['detection'], '--data-root', tmp_path / 'data', '--reader',
                    'mae_backbone.ArrayReader', 'channels=4', '--iters', '2')
    assert 'no training image' in wrong
    assert 'ArrayRader' in refused('check', CONFIGS['detection'], '--data-root', tmp_path / 'data', '--reader',
                                   'mae_backbone.ArrayRader')


@pytest.mark.slow  # a plan, a training and a prediction for each task, 3 s
@pytest.mark.parametrize(('task', 'save', 'channels', 'dtype'), [
    ('detection', save_tiff, 7, np.uint16), ('segmentation', save_npy, 1, np.uint16),
    ('classification', save_npy, 16, np.uint8)])
def test_bands_are_planned_without_naming_a_reader(task: str, save: Save, channels: int, dtype: type, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    images = write_set(task, tmp_path / 'data', save, channels=channels, dtype=dtype)
    printed = run_command('plan', 'data', '--estimate', '--hours', '0.01', '-o', 'own.py')
    assert f'images: {channels} channels of {np.dtype(dtype)}' in printed
    assert Path('own.html').read_text().count('data:image/jpeg') == 4, 'samples are shown'
    run_command('train', 'own.py', '--iters', '1', '--work-dir', 'run', '--cfg-options',
                'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
                'model.backbone.init_cfg=None', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None')
    weights = read_run(tmp_path / 'run/iter_1.pth')['state_dict']
    assert weights['backbone.patch_embed.proj.weight'].shape[1] == channels
    run_command('predict', 'run/iter_1.pth', images, '-o', 'out', '--threshold', '0')
