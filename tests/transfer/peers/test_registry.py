"""Peers in a suite: each can be trained, and has its rows in the table of the task that it is compared to."""
import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.band_sets import save_png, write_set
from helpers.class_folders import write_classes
from helpers.encoder_files import save
from helpers.made_encoders import MADE_SUITE, made_experiment
from helpers.peer_data import (
    BOXES,
    DETECTION,
    SEGMENTATION,
    ReadingSegmenter,
    peer_spec,
    ticking,
    write_readable_boxes,
    write_readable_maps,
)
from torch import nn

from mae_backbone.transfer import experiment_dir, run
from mae_backbone.transfer.encoders import find_encoders
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.peers.classifier import train_classifier
from mae_backbone.transfer.peers.registry import train_peer
from mae_backbone.transfer.peers.unet import train_segmenter
from mae_backbone.transfer.planning import cell_results, plan
from mae_backbone.transfer.suite import load_suite
from mae_backbone.transfer.task import PEERS
from mae_backbone.transfer.worker import run_cell
from mae_backbone.utils.config_files import find_config

SUITE = f'''
title = 'Peers'
data = dict(maps='maps')
tasks = {{
    'segmentation': dict({SEGMENTATION!r}, data=['maps'], options={{'train_dataloader.batch_size': 2}}),
    'unet': dict(peer='unet', compare_to='segmentation', minutes=1e-6, data=['maps'], labels=[0.5], amp=True)}}
'''


@pytest.mark.parametrize(('peer', 'task', 'message'), [
    ('faster-rcnn', DETECTION, 'is the config of a Mask R-CNN: choose the peer mask-rcnn'),
    ('mask-rcnn', BOXES, 'is not the config of a Mask R-CNN of mmdet'),
    ('mask-rcnn', SEGMENTATION, 'is not the config of a Mask R-CNN of mmdet'),
    ('unet', DETECTION, 'is not the config of a segmenter of mmseg')])
def test_a_peer_for_another_kind_of_config_is_refused_before_the_first_job(
        tmp_path, monkeypatch: pytest.MonkeyPatch, peer: str, task: dict, message: str):
    monkeypatch.setattr(run, 'PEER_PACKAGES', {})
    (tmp_path / 'suite.py').write_text(f'''
title = 'Peers'
data = dict(own='own')
tasks = {{
    'training': dict({task!r}, data=['own']),
    'peer': dict(peer={peer!r}, compare_to='training', minutes=1, data=['own'], labels=[1.0])}}
''')
    (write_readable_maps if task is SEGMENTATION else write_readable_boxes)(tmp_path / 'data' / 'own')
    suite = load_suite(str(tmp_path / 'suite.py')).only(tasks=['peer'])
    with pytest.raises(ValueError, match=message):
        run.check_peers(plan(Experiment(suite, (), tmp_path / 'data', tmp_path / 'out')))


def maps_experiment(folder, **only: list) -> Experiment:
    write_readable_maps(folder / 'data' / 'maps')
    (folder / 'suite.py').write_text(SUITE)
    return Experiment(load_suite(str(folder / 'suite.py')).only(**only), (), folder / 'data', folder / 'out')


def test_a_peer_stands_beside_the_task_of_the_encoders(tmp_path):
    task = "resnet18=dict(peer='resnet18', compare_to='tune', minutes=0.01, data=['two'], seeds=[0]),\n    tune=dict("
    made = made_experiment(tmp_path, MADE_SUITE.replace('tune=dict(', task), length=0.01)
    jobs = plan(made)
    [job] = [job for job in jobs if job.name.startswith('resnet18')]
    assert job.after == ()
    spec = experiment_dir.read_spec(job.folders[0])
    assert (spec['kind'], spec['minutes'], spec['classes']) == ('peer', 0.0001, ['dark', 'light'])
    run_cell(job.folders[0])
    [result] = cell_results(made)
    assert (result.task, result.data, result.model) == ('tune', 'two', 'resnet18')
    assert ('mae', 'resnet18') in made.comparisons
    assert ('twice', 'resnet18') not in made.comparisons, 'a point of a curve'


def test_a_peer_has_data_and_metrics_of_the_task_beside_it(tmp_path, monkeypatch: pytest.MonkeyPatch):
    experiment = maps_experiment(tmp_path, tasks=['unet'])
    [job] = plan(experiment)
    spec = experiment_dir.read_spec(job.folders[0])
    assert (spec['config'], spec['metrics'], spec['amp']) == (SEGMENTATION['config'], {'mIoU': 'mIoU'}, True)
    assert (spec['config_options'], spec['classes']) == ({'train_dataloader.batch_size': 2}, ['car', 'road', 'sky'])
    package = SimpleNamespace(Unet=lambda *_, classes, **__: ReadingSegmenter(classes))
    monkeypatch.setitem(sys.modules, 'segmentation_models_pytorch', package)
    run_cell(job.folders[0])
    [result] = cell_results(experiment)
    assert (result.task, result.model, result.values) == ('segmentation', 'unet', {'mIoU': 100.0})
    assert result.curves['mIoU'][-1][0] == 1


@pytest.mark.parametrize('peer', PEERS)
def test_every_peer_can_be_trained(tmp_path, peer: str):
    root = tmp_path / 'data'
    if peer == 'resnet18':
        write_classes(root, train=3, val=1)
        spec, metrics = {'data_root': str(root), 'labels': 1.0, 'seed': 0, 'options': {}}, {'top-1'}
    elif peer == 'unet':
        pytest.importorskip('segmentation_models_pytorch')
        spec, metrics = peer_spec(SEGMENTATION, write_readable_maps(root, train=2, val=1)), {'mIoU'}
    else:
        write_readable_boxes(root, train=3, val=1)
        task = DETECTION if peer == 'mask-rcnn' else BOXES
        spec, metrics = peer_spec(task, root, options={'batch_size': 1}), set(task['metrics'].values())
    found = train_peer({**spec, 'peer': peer, 'minutes': 1e-6, 'amp': True})
    assert found['steps'] == 1
    assert found['values'].keys() == found['curves'].keys() == metrics
    assert all(0 <= value <= 100 for value in found['values'].values())


READ = dict(type='mae_backbone.ColorReader', value_range=(0, 8400))


def readers_experiment(folder, reader: dict, *, in_config: bool = False) -> Experiment:
    """Peers next to a probe and two trainings, on images with 12 bits. The MAE or the configs state the reader."""
    for task in ('classification', 'segmentation'):
        write_set(task, folder / 'data' / task, save_png, channels=3, dtype=np.uint16)
    stated = f"train_dataloader = dict(dataset=dict(type='mae_backbone.UnlabeledImages', reader={reader!r}))\n"
    checkpoint = save(folder / 'mae.pth', config='' if in_config else stated)
    base = find_config('mae_backbone::demo/vit-micro_finetune_cifar10.py')
    (folder / 'tune.py').write_text(f"_base_ = ['{base}']\n" + in_config * (
        f'train_dataloader = dict(dataset=dict(reader={reader!r}))\nval_dataloader = train_dataloader\n'))
    (folder / 'suite.py').write_text(f"""
title = 'Readers'
data = dict(images='classification', maps='segmentation')
tasks = {{
    'knn': dict(probe='knn', data=['images']),
    'tune': dict(config={str(folder / 'tune.py')!r}, data=['images']),
    'resnet18': dict(peer='resnet18', compare_to='tune', minutes=1, data=['images']),
    'segmentation': dict({SEGMENTATION!r}, data=['maps']),
    'unet': dict(peer='unet', compare_to='segmentation', minutes=1, data=['maps'])}}
""")
    return Experiment(load_suite(str(folder / 'suite.py')), tuple(find_encoders([str(checkpoint)], [])),
                      folder / 'data', folder / 'out')


def planned_specs(experiment: Experiment) -> dict[str, dict]:
    plan(experiment)
    return {cell.task: experiment_dir.read_spec(experiment.work_dir / cell.folder) for cell in experiment.cells()}


class WatchedClassifier(nn.Linear):
    """Remembers the largest value of its images, normalized as by `train_classifier`."""

    brightest = 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        WatchedClassifier.brightest = 125.3 + 63.0 * float(images[:, 0].max())
        return super().forward(images.mean((2, 3)))


class WatchedSegmenter(ReadingSegmenter):
    """Remembers the largest value of its images."""

    brightest = 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        WatchedSegmenter.brightest = self.mean + self.std * float(images[:, 0].max())
        return super().forward(images)


def test_a_peer_sees_the_pixels_that_the_encoder_sees(tmp_path):
    """Otherwise it would be trained on images with 12 bits that are nearly black."""
    specs, read = planned_specs(readers_experiment(tmp_path, READ)), json.loads(json.dumps(READ))
    assert specs['knn']['architecture']['reader'] == read
    assert [specs[task]['reader'] for task in ('tune', 'resnet18', 'segmentation', 'unet')] == [read] * 4
    train_classifier(specs['resnet18'] | {'minutes': 0.001}, clock=ticking(),
                     build=lambda classes, _: WatchedClassifier(3, classes))
    assert WatchedClassifier.brightest > 100, 'without the reader it is at most 17'
    train_segmenter(specs['unet'] | {'minutes': 0.001}, clock=ticking(), build=WatchedSegmenter)
    assert WatchedSegmenter.brightest > 100, 'without the reader it is at most 17'


def test_the_reader_of_the_config_of_a_task_is_the_reader_of_its_peer(tmp_path):
    specs = planned_specs(readers_experiment(tmp_path, READ, in_config=True))
    assert 'reader' not in specs['tune'], 'its config has it'
    assert specs['resnet18']['reader'] == json.loads(json.dumps(READ))
    assert 'reader' not in specs['unet'], 'neither encoder nor config have one'


def test_the_reader_in_the_options_of_a_task_takes_precedence(tmp_path):
    own = {f'{split}_dataloader.dataset.reader': {**READ, 'value_range': (0, 4095)} for split in ('train', 'val')}
    experiment = readers_experiment(tmp_path, READ)
    text = (tmp_path / 'suite.py').read_text().replace("tune.py', data=", f"tune.py', options={own!r}, data=")
    (tmp_path / 'suite.py').write_text(text)
    specs = planned_specs(dataclasses.replace(experiment, suite=load_suite(str(tmp_path / 'suite.py'))))
    assert 'reader' not in specs['tune'], 'its options have it'
    assert specs['resnet18']['reader']['value_range'] == [0, 4095]


def test_an_encoder_with_the_name_of_a_peer_is_refused(tmp_path):
    """Otherwise one result would replace the other one in the table."""
    experiment = readers_experiment(tmp_path, READ)
    encoder = experiment.encoders[0]._replace(name='resnet18')
    with pytest.raises(ValueError, match='an encoder and a peer have the same name resnet18'):
        plan(dataclasses.replace(experiment, encoders=(encoder,)))


def test_a_peer_of_color_images_is_refused_for_bands(tmp_path):
    bands = dict(type='mae_backbone.TiffReader', channels=3, dtype='uint16')
    with pytest.raises(ValueError, match='the peer resnet18 takes color images with 8 bits, but the images are read by '
                                         'TiffReader as 3 channels of uint16: remove the task of the peer'):
        plan(readers_experiment(tmp_path, bands))
