"""Figures of a report: drawn from the spec of their cell; one that fails does not stop the others."""
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.class_folders import write_classes
from helpers.encoder_files import save
from helpers.labeled_layouts import in_folders, in_list, in_shards
from helpers.transfer_suites import CONFIG, SUITE, save_mae
from mmengine.config import Config

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.core.vit import ViT
from mae_backbone.data.decode import read_image
from mae_backbone.prediction import comparison
from mae_backbone.transfer import experiment_dir, figures
from mae_backbone.transfer.encoders import find_encoders
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.figure_plan import plan_figures
from mae_backbone.transfer.figures import draw_figures, validation_images
from mae_backbone.transfer.frozen_encoder import build_frozen
from mae_backbone.transfer.planning import plan
from mae_backbone.transfer.suite import load_suite


def experiment(folder: Path, checkpoint: Path, data: Path, *, k: int = 3) -> Experiment:
    (folder / 'suite.py').write_text(SUITE.replace('K', str(k)))
    encoders = find_encoders([str(checkpoint)], ['random'])
    suite = load_suite(str(folder / 'suite.py'))
    return Experiment(suite, tuple(encoders), data, folder / 'out')


def test_figures_of_encoders_are_drawn_as_planned(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(figures, 'build_frozen', lambda *args: (built.append(args), build_frozen(*args))[1])
    made = experiment(tmp_path, save_mae(tmp_path / 'mae.pth'), write_classes(tmp_path / 'data'))
    [job] = plan_figures(made)
    found = draw_figures(experiment_dir.read_spec(job.folders[0]), job.folders[0])
    assert found['faults'] == []
    assert len(built) == 6, 'each encoder once for each kind of picture'
    assert list(found['pictures']) == ['attention.png', 'principal.png', 'reconstructions_0.png', 'neighbors_0.png',
                                       'neighbors_1.png']
    shapes = {name: cv2.imread(str(job.folders[0] / name)).shape for name in found['pictures']}
    assert shapes['attention.png'] == shapes['principal.png'] == shapes['reconstructions_0.png'] == (
        24 + 4 * 196, 3 * 196, 3)  # four images in three columns, below a line of titles
    assert shapes['neighbors_0.png'] == (24 + 6 * (96 + 24 + 4), 6 * 100, 3)


def test_without_a_decoder_the_other_figures_are_drawn(tmp_path):
    checkpoint = save(tmp_path / 'encoder.pth', config=CONFIG.replace('mae_backbone.MAEPretrainer', 'other'))
    made = experiment(tmp_path, checkpoint, write_classes(tmp_path / 'data'))
    [job] = plan_figures(made)
    found = draw_figures(experiment_dir.read_spec(job.folders[0]), job.folders[0])
    assert len(found['pictures']) == 4
    assert ['no decoder to show' in fault for fault in found['faults']] == [True]


def test_other_weights_have_another_folder(tmp_path):
    data = write_classes(tmp_path / 'data')
    jobs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        jobs += plan_figures(experiment(tmp_path, save(tmp_path / 'mae.pth', config=CONFIG), data))
    assert jobs[0].folders != jobs[1].folders
    assert plan_figures(experiment(tmp_path, tmp_path / 'mae.pth', data)) == jobs[1:]


@pytest.mark.parametrize('classes', [False, True])
def test_validation_images_are_not_label_maps(tmp_path, classes: bool):
    data = write_classes(tmp_path / 'data')
    (data / 'annotations' / 'val').mkdir(parents=True)
    (data / 'annotations' / 'val' / 'map.png').touch()
    files = [data / 'val' / name for name in ('dark/00.png', 'dark/03.png', 'light/03.png')]
    for found, file in zip(validation_images(data, 3, classes=classes), files, strict=True):
        assert np.array_equal(found, read_image(file))


@pytest.mark.parametrize('write', [in_list, in_shards])
def test_a_set_in_a_list_or_in_shards_is_drawn(tmp_path, monkeypatch, write: Callable):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    data = write(tmp_path / 'data', in_folders(tmp_path / 'folders'))
    made = experiment(tmp_path, save_mae(tmp_path / 'mae.pth'), data)
    [job] = plan_figures(made)
    found = draw_figures(experiment_dir.read_spec(job.folders[0]), job.folders[0])
    assert found['faults'] == []
    assert len(found['pictures']) == 5


def test_if_a_figure_fails_the_others_are_drawn(tmp_path, monkeypatch, capsys):
    def broken(*_: object) -> None:
        raise KeyError('what is missing')
    monkeypatch.setattr(figures, 'principal_maps', broken)
    monkeypatch.setattr(figures, '_neighbors', broken)
    made = experiment(tmp_path, save_mae(tmp_path / 'mae.pth'), write_classes(tmp_path / 'data'))
    [job] = plan_figures(made)
    found = draw_figures(experiment_dir.read_spec(job.folders[0]), job.folders[0])
    assert list(found['pictures']) == ['attention.png', 'reconstructions_0.png']
    assert ['what is missing' in fault for fault in found['faults']] == [True] * 3
    assert capsys.readouterr().err.count('Traceback') == 3


def test_data_without_images_is_reported(tmp_path):
    (tmp_path / 'data').mkdir()
    spec = {'of': 'encoders', 'data_root': str(tmp_path / 'data'), 'classes': False, 'encoders': [],
            'where': {'checkpoints': []}}
    found = draw_figures(spec, tmp_path)
    assert found['pictures'] == {}
    assert all('holds no images' in fault for fault in found['faults'])


def test_each_encoder_is_shown_with_the_config_of_its_training(tmp_path, monkeypatch):
    suite = SUITE.replace("tasks = dict(knn=dict(probe='knn', data=['images'], options=dict(k=K)))", """
tasks = dict(tune=dict(data=['images'], config=dict(
    tiny='demo/vit-micro_finetune_cifar10.py', small='demo/vit-micro_linear_cifar10.py')))""")
    (tmp_path / 'suite.py').write_text(suite)
    write_classes(tmp_path / 'data')
    files = []
    for name in ('tiny', 'small'):
        vit = ViT(name, image_size=16, patch_size=16)
        torch.save(dict(model=vit.state_dict()), tmp_path / f'{name}.pth')
        files.append(str(tmp_path / f'{name}.pth'))
    made = Experiment(load_suite(str(tmp_path / 'suite.py')), tuple(find_encoders(files, [])),
                     tmp_path / 'data', tmp_path / 'out')
    for job in plan(made):
        (job.folders[0] / experiment_dir.RESULT).write_text('{"values": {"top-1": 1.0}, "seconds": 1.0}')
        run = job.folders[0] / 'run'
        run.mkdir()
        torch.save({}, run / 'iter_1.pth')
        (run / 'last_checkpoint').write_text('before_it_was_moved/iter_1.pth')
    drawing = plan_figures(made)[-1].folders[0]
    seen = []

    class Predictor:
        task = 'detection'

        def __init__(self, cfg: Config, checkpoint: str) -> None:
            seen.append((Path(cfg.filename).name, checkpoint, cfg.data_root))

        def __call__(self, image: np.ndarray) -> None:
            return None

        def draw(self, image: np.ndarray, _: None, *, legend: str) -> np.ndarray:
            return image

        def draw_truth(self, *_: object) -> tuple[np.ndarray, np.ndarray]:
            return (np.zeros((8, 8, 3), np.uint8),) * 2
    monkeypatch.setattr(comparison, 'Predictor', Predictor)
    assert draw_figures(experiment_dir.read_spec(drawing), drawing)['faults'] == []
    root = str(tmp_path / 'data')
    checkpoints = [str(job.folders[0] / 'run' / 'iter_1.pth') for job in plan(made)]
    assert seen == list(zip(('vit-micro_finetune_cifar10.py', 'vit-micro_linear_cifar10.py'), checkpoints, [root] * 2,
                            strict=True))


def test_each_run_is_shown_by_its_last_checkpoint(tmp_path):
    names = ('a/epoch_1.pth', 'a/epoch_2.pth', 'b.pth')
    (tmp_path / 'a').mkdir()
    files = [str(save_mae(tmp_path / name)) for name in names]
    (tmp_path / 'suite.py').write_text(SUITE.replace('K', '3'))
    made = Experiment(load_suite(str(tmp_path / 'suite.py')),
                     tuple(find_encoders(files, ['random'])), write_classes(tmp_path / 'data'), tmp_path / 'out')
    [job] = plan_figures(made)
    shown = [encoder['name'] for encoder in experiment_dir.read_spec(job.folders[0])['encoders']]
    assert shown == ['epoch_2', 'b', 'random']


def test_maps_are_drawn_for_images_of_any_size(tmp_path):
    checkpoint = save(tmp_path / 'mae.pth', config=CONFIG)
    data = write_classes(tmp_path / 'data')
    spec = {'of': 'encoders', 'data_root': str(data), 'classes': False, 'image_size': None,
            'encoders': [{'name': 'mae', 'architecture': read_architecture(checkpoint)._asdict()}],
            'where': {'checkpoints': [str(checkpoint)], 'features': None}}
    (tmp_path / 'out').mkdir()
    found = draw_figures(spec, tmp_path / 'out')
    assert list(found['pictures']) == ['attention.png', 'principal.png']
    assert len(found['faults']) == 1
