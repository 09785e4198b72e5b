"""Plan: one job for all cells on the same features, one for each training; folders keep their spec."""
import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from helpers.class_folders import write_classes
from helpers.encoder_files import CONFIG, save
from mmengine.config import Config

from mae_backbone.checkpoints import architecture
from mae_backbone.transfer import encoders, experiment_dir
from mae_backbone.transfer.encoders import find_encoders
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.figure_plan import plan_figures
from mae_backbone.transfer.planning import cell_results, known_names, plan
from mae_backbone.transfer.report import write_report
from mae_backbone.transfer.suite import load_suite

SUITE = '''
title = 'Small'
data = dict(one='one')
seeds = [0, 1]
labels = [0.5, 1.0]
new_random_weights = NEW
tasks = dict(
    knn=dict(probe='knn', data=['one']),
    linear=dict(probe='linear', data=['one']),
    tune=dict(config='demo/vit-micro_finetune_cifar10.py', data=['one'], gpus=4))
'''


@pytest.fixture
def experiment(tmp_path):
    def make(new: bool = False, suite: str = SUITE) -> Experiment:
        (tmp_path / 'suite.py').write_text(suite.replace('NEW', str(new)))
        (tmp_path / 'data').mkdir(exist_ok=True)
        encoders = find_encoders([str(tmp_path / 'mae.pth')], ['random'])
        return Experiment(load_suite(str(tmp_path / 'suite.py')), tuple(encoders), tmp_path / 'data',
                         tmp_path / 'out')
    save(tmp_path / 'mae.pth', config=CONFIG)
    return make


@pytest.mark.parametrize(('new', 'features'), [(False, 2), (True, 3)])
def test_cells_on_the_same_features_form_one_job(experiment, new: bool, features: int):
    planned = experiment(new)
    jobs = plan(planned)
    folders = [folder for job in jobs for folder in job.folders]
    assert sorted(folders) == sorted(planned.work_dir / cell.folder for cell in planned.cells())
    assert len(folders) == 3 * 2 * 2 * 2
    assert [len(job.folders) > 1 for job in jobs] == [True] * features + [False] * 8
    assert {job.gpus for job in jobs[features:]} == {4}
    for job in jobs[:features]:
        specs = [experiment_dir.read_spec(folder) for folder in job.folders]
        assert len({(spec['weights'], spec['weights_seed'], str(spec['architecture'])) for spec in specs}) == 1


def test_random_weights_have_the_architecture_of_the_checkpoint(experiment):
    planned = experiment()
    plan(planned)
    ours, random = (experiment_dir.read_spec(planned.work_dir / cell.folder) for cell in planned.cells()[:2])
    assert ours['architecture'] == random['architecture']
    assert ours['architecture']['heads'] == 4
    assert random['where']['checkpoint'] is None


def test_planning_again_changes_nothing_and_another_checkpoint_is_refused(experiment, tmp_path):
    before = plan(experiment())
    assert plan(experiment()) == before
    torch.manual_seed(1)
    save(tmp_path / 'mae.pth', config=CONFIG)
    with pytest.raises(ValueError, match='a different weights: choose another --work-dir'):
        plan(experiment())


@pytest.mark.parametrize('old', [False, True])
def test_an_added_encoder_does_not_rename_the_others(tmp_path, old: bool):
    (tmp_path / 'suite.py').write_text(SUITE.replace('NEW', 'False'))
    (tmp_path / 'data').mkdir()
    one, two = (str(save(tmp_path / run / 'epoch_1.pth', config=CONFIG)) for run in 'ab')

    def folders(*checkpoints: str) -> set[Path]:
        encoders = find_encoders(checkpoints, ['random'], known_names(tmp_path / 'out'))
        return {folder for job in plan(Experiment(load_suite(str(tmp_path / 'suite.py')),
                                                 tuple(encoders), tmp_path / 'data', tmp_path / 'out'))
                for folder in job.folders}
    before = folders(one)
    for folder in before if old else ():  # cells of an earlier version did not note names
        spec = experiment_dir.read_spec(folder)
        del spec['where']['name']
        (folder / experiment_dir.SPEC).write_text(json.dumps(spec))
    both = folders(one, two)
    assert before < both
    assert folders(two) | folders(one) == both


def test_every_checkpoint_is_read_and_hashed_once(experiment, monkeypatch):
    asked = []
    for module, name in ((architecture, 'open_source'), (encoders, 'file_fingerprint')):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, real=real, name=name, **options: (
            asked.append(name), real(*args, **options))[1])
    planned = experiment()
    plan(planned)
    plan_figures(planned)
    write_report(planned, failed={}, figures=[], seconds=1.0, command='', only={})
    assert sorted(asked) == ['file_fingerprint', 'open_source']


def test_figures_of_another_training_have_another_folder(experiment, tmp_path):
    """The user may remove the results of another length, as the message says, but the figures stay."""
    shown = set()
    for length in (1.0, 0.5):
        planned = dataclasses.replace(experiment(), length=length)
        shutil.rmtree(tmp_path / 'out' / 'cells' / 'tune', ignore_errors=True)
        plan(planned)
        cell = next(cell for cell in planned.cells() if cell.task == 'tune' and cell.labels == 1.0)
        (planned.work_dir / cell.folder / experiment_dir.RESULT).write_text('{"values": {"top-1": 1.5}, "seconds": 1}')
        shown |= {job.folders for job in plan_figures(planned) if 'tune' in job.name}
    assert len(shown) == 2


def test_a_single_data_set_may_be_the_data_root(experiment, tmp_path):
    assert experiment().data_folder('one') == tmp_path / 'data'
    (tmp_path / 'data' / 'one').mkdir()
    assert experiment().data_folder('one') == tmp_path / 'data' / 'one'
    two = SUITE.replace("data = dict(one='one')", "data = dict(one='one', two='two')")
    with pytest.raises(ValueError, match='check --data-root'):
        plan(experiment(suite=two))


def test_a_data_set_whose_classes_changed_is_refused(experiment, tmp_path):
    write_classes(tmp_path / 'data')
    plan(experiment())
    specs = [experiment_dir.read_spec(tmp_path / 'out' / cell.folder) for cell in experiment().cells()]
    assert {(spec['kind'], *spec['classes']) for spec in specs} == {('probe', 'dark', 'light'),
                                                                    ('train', 'dark', 'light')}
    for split in ('train', 'val'):
        (tmp_path / 'data' / split / 'dark').rename(tmp_path / 'data' / split / 'shade')
    with pytest.raises(ValueError, match='for the classes dark, light, the data have light, shade'):
        plan(experiment())


@pytest.mark.parametrize('kind', ['probe', 'train'])
def test_a_data_set_whose_files_changed_is_refused(experiment, tmp_path, kind: str):
    data = write_classes(tmp_path / 'data')
    plan(experiment())
    plan(experiment())
    for folder in [file.parent for file in (tmp_path / 'out' / 'cells').rglob(experiment_dir.SPEC)]:
        if experiment_dir.read_spec(folder)['kind'] != kind:
            shutil.rmtree(folder)
    image = next((data / 'train').rglob('*.png'))
    image.write_bytes(image.read_bytes() + b' ')
    with pytest.raises(ValueError, match=r'other files: the folder of the data had \d+ files of [\d,]+ bytes, and now'):
        plan(experiment())
    image.unlink()
    with pytest.raises(ValueError, match='other files'):
        plan(experiment())


def test_results_come_from_finished_cells(experiment):
    planned = experiment()
    plan(planned)
    assert cell_results(planned) == []
    cell = planned.cells()[3]
    (planned.work_dir / cell.folder / experiment_dir.RESULT).write_text('{"values": {"top-1": 12.5}, "seconds": 1}')
    found = (cell.task, cell.data, cell.labels, cell.seed, cell.model, {'top-1': 12.5}, 1)
    assert cell_results(planned) == [(*found, None, [], None, {}, None, 'cpu_minutes')], 'of an earlier version'
    (planned.work_dir / cell.folder / experiment_dir.RESULT).write_text(
        '{"values": {"top-1": 12.5}, "seconds": 1, "environment": {"commit": "a"}, "cpu_minutes": 2.5, '
        '"curves": {"top-1": [[3, 2.5, 12.5]]}}')
    assert cell_results(planned) == [(*found, {'commit': 'a'}, [], 2.5, {'top-1': [[3, 2.5, 12.5]]},
                                         None, 'cpu_minutes')]
    (planned.work_dir / cell.folder / experiment_dir.RESULT).write_text(
        '{"values": {"top-1": 12.5}, "seconds": 1, "minutes": 2.5}')
    assert cell_results(planned) == [(*found, None, [], 2.5, {}, None, 'minutes')], 'on a GPU'


def test_a_config_that_does_not_exist_is_named(experiment):
    with pytest.raises(ValueError, match=r'a config that does not exist: .*nowhere'):
        plan(experiment(suite=SUITE.replace('demo/vit-micro_finetune_cifar10.py', 'demo/nowhere.py')))


def test_training_from_a_model_of_timm_has_a_config_with_that_backbone(tmp_path):
    suite = SUITE.replace('NEW', 'False') + """
encoders = dict(foreign=dict(timm='vit_tiny_patch16_224', checkpoint='FILE', options=dict(embed_dim=32, depth=2,
                                                                                           num_heads=2)))
"""
    vit = timm.create_model('vit_tiny_patch16_224', embed_dim=32, depth=2, num_heads=2)
    torch.save(vit.state_dict(), tmp_path / 'foreign.pth')
    (tmp_path / 'suite.py').write_text(suite.replace('FILE', str(tmp_path / 'foreign.pth')))
    (tmp_path / 'data').mkdir()
    loaded = load_suite(str(tmp_path / 'suite.py'))
    planned = Experiment(loaded, tuple(find_encoders(['foreign'], ['random'], None, loaded.encoders)),
                         tmp_path / 'data', tmp_path / 'out')
    plan(planned)
    specs = {(cell.task, cell.model): experiment_dir.read_spec(planned.work_dir / cell.folder)
             for cell in planned.cells()}
    probe, training = specs['knn', 'foreign'], specs['tune', 'foreign']
    assert probe['architecture']['timm'] == {'options': {'name': 'vit_tiny_patch16_224', 'embed_dim': 32, 'depth': 2,
                                                         'num_heads': 2}, 'pooling': 'class'}
    assert probe['image_size'] == 224
    assert probe['where']['checkpoint'] == str((tmp_path / 'foreign.pth').resolve())
    assert specs['knn', 'random']['where']['checkpoint'] is None
    assert specs['knn', 'random']['architecture'] == probe['architecture']
    cfg = Config.fromfile(training['where']['config'])
    assert cfg.model.backbone == dict(
        type='mae_backbone.TimmViT', name='vit_tiny_patch16_224', patch_size=4, image_size=(56, 56), drop_path_rate=0.1,
        embed_dim=32, depth=2, num_heads=2)
    assert cfg.model.data_preprocessor.mean == [127.5] * 3
    assert cfg.train_dataloader.dataset.data_root == 'data/cifar10'
    before = Path(training['where']['config']).stat().st_mtime_ns
    plan(planned)     # the same config serves a second run
    assert Path(training['where']['config']).stat().st_mtime_ns == before


def test_probes_of_a_single_class_are_refused(experiment, tmp_path):
    write_classes(tmp_path / 'data')
    for split in ('train', 'val'):
        shutil.rmtree(tmp_path / 'data' / split / 'dark')
    with pytest.raises(ValueError, match='has a single class, expected two or more for a probe'):
        plan(experiment())
