"""Probes in cells: features, labels and predictions equal those of their parts."""

import numpy as np
import pytest
import torch
from helpers.band_sets import save_npy, save_png, save_tiff, write_set
from helpers.class_folders import write_classes
from helpers.encoder_files import CONFIG, save
from helpers.transfer_suites import SUITE

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.evaluation.feature_cache import Features
from mae_backbone.evaluation.knn import knn_predict
from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoder_reader import stored_reader
from mae_backbone.transfer.encoders import find_encoders
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.figure_plan import plan_figures
from mae_backbone.transfer.figures import draw_figures
from mae_backbone.transfer.frozen_encoder import build_frozen
from mae_backbone.transfer.planning import plan
from mae_backbone.transfer.probes import class_features, knn, labeled_rows, run_probe
from mae_backbone.transfer.suite import load_suite


@pytest.fixture
def spec(tmp_path) -> dict:
    checkpoint = save(tmp_path / 'mae.pth', config=CONFIG)
    return {'probe': 'knn', 'data_root': str(write_classes(tmp_path / 'data')), 'labels': 1.0, 'seed': 0, 'options': {},
            'architecture': read_architecture(checkpoint)._asdict(), 'image_size': 16, 'weights_seed': 0,
            'where': {'checkpoint': str(checkpoint), 'features': str(tmp_path / 'features')}}


def test_knn_equals_the_neighbors_of_the_features(spec):
    found = run_probe({**spec, 'options': {'k': 3}})
    model = build_frozen(spec['architecture'], spec['where']['checkpoint'])
    train, test = (class_features(model, spec['data_root'], split, 16, spec['where']['features'])
                   for split in ('train', 'val'))
    answers = knn_predict(test.values.float(), train.values.float(), train.labels, num_classes=2, k=3)
    assert found['values']['top-1'] == pytest.approx(100 * float((answers == test.labels).double().mean()))
    with torch.no_grad():
        image = ClassFolder(spec['data_root'], 'val', train=False, image_size=16)[0]['inputs']
        expected = model(model.data_preprocessor({'inputs': [image]})['inputs'], mode='tensor')[0]
    torch.testing.assert_close(test.values[0].float(), expected, atol=2e-3, rtol=2e-3)  # kept in half precision


def test_whitened_neighbors_are_the_same_for_any_scale_of_the_features(spec):
    train, test = (Features(torch.randn(40, 5, generator=torch.Generator().manual_seed(seed)),
                            torch.arange(40) % 3) for seed in (0, 1))
    scale = torch.tensor([1000.0, 1.0, 1.0, 0.1, 0.001])
    plain, scaled = (knn(*(features._replace(values=features.values * factor) for features in (train, test)),
                         seed=0, k=5, whiten=True) for factor in (1.0, 7.0))
    assert plain == scaled
    assert knn(train, test, seed=0, k=5) != knn(
        *(features._replace(values=features.values * scale) for features in (train, test)), seed=0, k=5)


def test_more_neighbors_than_images_are_lowered_and_noted(spec):
    found = run_probe({**spec, 'options': {'k': 500}})
    assert found['k'] < 500
    assert found['notes'] == [f'k={found["k"]} neighbors instead of 500: there are no more training images']
    assert run_probe({**spec, 'options': {'k': 3}})['notes'] == []


@pytest.mark.parametrize(('probe', 'options'), [('linear', {'epochs': 2}), ('attentive', {'epochs': 2, 'lrs': [1e-2]})])
def test_trained_probes_are_deterministic(spec, tmp_path, probe: str, options: dict):
    cells = [run_probe({**spec, 'probe': probe, 'options': options, 'labels': 0.5}) for _ in range(2)]
    assert cells[0] == cells[1]
    assert 0 <= cells[0]['values']['top-1'] <= 100
    assert cells[0]['chosen']['lr'] > 0


def test_labeled_rows_equal_a_training(spec):
    part = ClassFolder(spec['data_root'], 'train', train=False, fraction=0.25, seed=3)
    every = ClassFolder(spec['data_root'], 'train', train=False)
    rows = labeled_rows(spec['data_root'], 0.25, 3)
    assert [every.files[row] for row in rows] == list(part.files)
    assert len(rows) == 6
    assert labeled_rows(spec['data_root'], 1.0, 3) is None


def test_other_numbers_of_neighbors_are_recorded(spec):
    found = run_probe({**spec, 'options': {'k': 3}})
    assert [*found['values']] == ['top-1']  # a line of the table for each
    assert found['top-1 by k'] == {k: run_probe({**spec, 'options': {'k': k}})['values']['top-1']
                                   for k in (3, 10, 20)}  # of 24 images


@pytest.mark.parametrize(('device', 'workers'), [('cuda', 3), ('cpu', 1)])
def test_on_a_gpu_all_threads_of_the_job_decode(spec, monkeypatch: pytest.MonkeyPatch, device: str, workers: int):
    given = {}
    monkeypatch.setattr('mae_backbone.transfer.probes.get_device', lambda: device)
    monkeypatch.setattr('mae_backbone.transfer.probes.threads_per_process', lambda _: 8)
    monkeypatch.setattr('torch.get_num_threads', lambda: 3)
    monkeypatch.setattr('mae_backbone.transfer.probes.cached_features', lambda *_, **options: given.update(options))
    class_features(None, spec['data_root'], 'val', 16, '')
    assert given['workers'] == workers


def test_k_is_at_most_the_number_of_labels(spec):
    assert run_probe({**spec, 'labels': 0.1})['k'] == 2


READER = "train_dataloader = dict(dataset=dict(type='mae_backbone.UnlabeledImages', reader=dict({})))\n"


@pytest.mark.parametrize(('save_image', 'channels', 'reader'), [
    (save_tiff, 5, "type='mae_backbone.TiffReader', channels=5, dtype='uint16'"),
    (save_npy, 2, "type='mae_backbone.ArrayReader', channels=2, dtype='uint16'"),
    (save_png, 3, "type='mae_backbone.ColorReader', value_range=(0, 8400)")])
def test_images_are_read_as_in_the_pretraining(tmp_path, save_image, channels: int, reader: str):
    """Also by `random`. Otherwise bands would fail, and values of 12 bits would be nearly black."""
    write_set('classification', tmp_path / 'data', save_image, channels=channels, dtype=np.uint16, images=8)
    checkpoint = save(tmp_path / 'mae.pth', config=READER.format(reader), in_channels=channels)
    (tmp_path / 'suite.py').write_text(SUITE.replace('K', '3'))
    made = Experiment(load_suite(str(tmp_path / 'suite.py')), tuple(find_encoders([str(checkpoint)], ['random'])),
                      tmp_path / 'data', tmp_path / 'out')
    plan(made)
    cells = [experiment_dir.read_spec(made.work_dir / cell.folder) for cell in made.cells()]
    assert [cell['architecture']['reader']['type'] in reader for cell in cells] == [True, True]
    assert all(cell['classes'] == ['a', 'b'] for cell in cells)
    dataset = ClassFolder(tmp_path / 'data', 'val', train=False, image_size=16,
                          reader=cells[0]['architecture']['reader'])
    assert float(dataset[0]['inputs'].float().max()) > (200 if channels == 3 else 2000)
    for cell in (cells[0], {**cells[0], 'labels': 0.5}):
        assert 0 <= run_probe({**cell, 'image_size': 16})['values']['top-1'] <= 100
    drawn = draw_figures(experiment_dir.read_spec(plan_figures(made)[0].folders[0]), tmp_path)
    assert ('principal.png' in drawn['pictures']) == (channels == 3)
    assert any('has no figures' in fault for fault in drawn['faults']) == (channels != 3)


def test_reader_of_other_code_is_refused(tmp_path):
    checkpoint = save(tmp_path / 'mae.pth', config=READER.format("type='os.system', command='touch ran'"))
    with pytest.raises(CheckpointError, match=r'os\.system, which is not a reader of this package'):
        stored_reader(checkpoint)
    assert stored_reader(save(tmp_path / 'b.pth', config=READER.format("type='mae_backbone.ColorReader'"))) is None
    assert stored_reader(save(tmp_path / 'c.pth')) is None


@pytest.mark.parametrize('load', ["reader=dict(type='mae_backbone.ColorReader', value_range=(0, 4095))",
                                  'value_range=(0, 4095)'])
def test_the_reader_of_a_detector_or_segmenter_is_in_its_pipeline(tmp_path, load: str):
    config = ("train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=["
              f"dict(type='mae_backbone.LoadImage', {load}), dict(type='LoadAnnotations')]))\n")
    assert stored_reader(save(tmp_path / 'a.pth', config=config)) == {
        'type': 'mae_backbone.ColorReader', 'value_range': (0, 4095)}
