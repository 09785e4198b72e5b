"""Plan of encoders that a suite makes: each recipe once, before what needs it, with the architecture it will have."""
import json
import re

import pytest
from helpers.made_encoders import MADE_SUITE, made_experiment

from mae_backbone.core.vit import ViT
from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.made_encoders import made_encoders
from mae_backbone.transfer.planning import plan
from mae_backbone.transfer.suite_configs import SuiteConfigs


def test_encoders_come_before_the_first_jobs_that_need_them(tmp_path):
    made = made_experiment(tmp_path)
    jobs = plan(made)
    order = {job.name: index for index, job in enumerate(jobs)}
    assert [job.name for job in jobs if job.name.startswith('encoder-')] == [
        'encoder-mae-one', 'encoder-mae-two', 'encoder-continued', 'encoder-twice']
    for job in jobs:
        for folder in job.after:
            [needed] = [other for other in jobs if other.folders == (folder,)]
            assert order[needed.name] < order[job.name]
    waiting = {job.name for job in jobs if job.after}
    assert {'encoder-continued', 'tune-two-labels-1-seed-0-mae', 'tune-two-labels-1-seed-1-twice'} <= waiting
    assert not waiting & {'encoder-mae-one', 'tune-two-labels-1-seed-0-random'}
    trainings = [job.name for job in jobs if job.name.startswith('tune')]
    assert [name.split('-')[-2:] for name in trainings] == [
        [seed, name] for seed in '01' for name in ('mae', 'continued', 'random')] + [['0', 'twice'], ['1', 'twice']]


def test_cells_have_the_encoder_of_their_data_and_random_weights_its_architecture(tmp_path):
    larger = "dict(one, data='two', options=dict(one['options'], **{'model.encoder.patch_size': 8}))"
    text = MADE_SUITE.replace("dict(one, data='two')", larger)
    made = made_experiment(tmp_path, text)
    plan(made)
    cells = {(cell.task, cell.data, cell.model): experiment_dir.read_spec(made.work_dir / cell.folder)
             for cell in made.cells()}
    for data, patch_size in (('one', 4), ('two', 8)):
        spec = cells['knn', data, 'mae']
        assert spec['architecture']['patch_size'] == patch_size
        assert cells['knn', data, 'random']['architecture'] == spec['architecture']
        assert spec['where']['checkpoint'] == str(tmp_path / 'out' / 'encoders' / 'mae' / data / 'encoder.pth')
    assert cells['knn', 'one', 'mae']['weights'] != cells['knn', 'two', 'mae']['weights']
    assert ('knn', 'one', 'continued') not in cells
    assert plan(made) == plan(made)


def test_probes_read_images_with_the_reader_of_the_recipe(tmp_path):
    reader = {'type': 'mae_backbone.ColorReader', 'value_range': [0, 4095]}
    options = f"dict(one, data='two', options=dict(one['options'], **{{'train_dataloader.dataset.reader': {reader}}}))"
    made = made_experiment(tmp_path, MADE_SUITE.replace("dict(one, data='two')", options), tasks=['knn'])
    plan(made)
    specs = {(cell.data, cell.model): experiment_dir.read_spec(made.work_dir / cell.folder) for cell in made.cells()}
    assert {key: spec['architecture'].get('reader') for key, spec in specs.items()} == {
        ('one', 'mae'): None, ('one', 'random'): None,
        **{('two', name): reader for name in ('mae', 'continued', 'twice', 'random')}}


def test_equal_recipes_are_made_once(tmp_path):
    text = MADE_SUITE.replace('twice=dict(two, length=4', 'twice=dict(two, length=2')
    made = made_experiment(tmp_path, text)
    jobs = plan(made)
    assert 'encoder-twice' not in {job.name for job in jobs}
    [job] = [job for job in jobs if job.name == 'tune-two-labels-1-seed-0-twice']
    assert job.after == (tmp_path / 'out' / 'encoders' / 'mae' / 'two',)


def test_another_recipe_is_refused(tmp_path):
    plan(made_experiment(tmp_path))
    with pytest.raises(ValueError, match=r'holds results for a different length: choose another --work-dir'):
        plan(made_experiment(tmp_path, length=2.0))
    with pytest.raises(ValueError, match=r'encoders/twice holds results for a different seed'):
        plan(made_experiment(tmp_path, MADE_SUITE.replace("dict(one, data='two')", "dict(one, data='two', seed=1)"),
                             checkpoints=('twice',)))


def test_mixed_precision_is_part_of_a_spec(tmp_path):
    text = MADE_SUITE.replace('two = dict(one,', 'two = dict(one, amp=True,')
    made = made_experiment(tmp_path, text.replace('length=4,\n', 'length=4, amp=True,\n'))
    plan(made)
    assert (made.made.spec('mae/one').get('amp'), made.made.spec('mae/two')['amp']) == (None, True)
    assert {experiment_dir.read_spec(made.work_dir / cell.folder)['amp'] for cell in made.cells()
            if cell.task == 'tune'} == {True}


def test_lengths_are_multiplied_and_at_least_one(tmp_path):
    made = made_experiment(tmp_path, length=0.01)
    plan(made)
    specs = [experiment_dir.read_spec(made.work_dir / cell.folder) for cell in made.cells() if cell.task == 'tune']
    assert {tuple(spec['length']) for spec in specs} == {('--iters', '1')}
    assert made.made.spec('mae/one')['length'] == ['--epochs', '1']
    configs = SuiteConfigs('small')
    assert configs.length('demo/mae_vit-micro_cifar10.py', None, 1.0) is None
    assert configs.length('demo/mae_vit-micro_cifar10.py', 7, 1.0) is None
    assert configs.length('demo/mae_vit-micro_cifar10.py', None, 2.0) == ['--epochs', '14']
    assert configs.length('demo/mae_vit-micro_camvid.py', 100, 0.5) == ['--iters', '50']


def test_only_the_encoders_of_the_chosen_data_are_made(tmp_path):
    made = made_experiment(tmp_path, data=['one'])
    assert [job.name for job in plan(made) if job.name.startswith('encoder')] == ['encoder-mae-one']
    assert made.models == ['mae', 'random']
    made = made_experiment(tmp_path, checkpoints=('continued',))
    assert [job.name for job in plan(made) if job.name.startswith('encoder')] == [
        'encoder-mae-one', 'encoder-continued']
    assert list(made.suite.data) == ['two'], 'continued is for nothing else'


def test_images_that_do_not_exist_are_named(tmp_path):
    text = MADE_SUITE.replace("folder='train'", "folder='images'")
    with pytest.raises(ValueError, match=r'encoder mae/one of the suite is made from images in .*one/images, which'):
        plan(made_experiment(tmp_path, text))


@pytest.mark.parametrize(('config', 'options', 'expected'), [
    ('demo/mae_vit-micro_cifar10.py', {}, (None, 128, 6, 4, 4, 32)),
    ('demo/mae_vit-micro_camvid.py', {'model.encoder.arch.width': 64}, (None, 64, 6, 4, 8, 64)),
    ('demo/vit-micro_supervised-64px_cifar10.py', {}, (None, 128, 6, 4, 8, 64)),
    ('demo/upernet_vit-micro_camvid.py', {}, (None, 128, 6, 4, 8, 64)),
    ('pretrain/mae_vit-b_800e_in1k.py', {}, ('base', 768, 12, 12, 16, 224))])
def test_the_architecture_is_that_of_the_config(config: str, options: dict, expected: tuple):
    found = SuiteConfigs('small').architecture(config, options)
    assert found[:6] == expected
    assert len(found.mean) == len(found.std) == found.in_channels == 3
    ViT(**found.backbone)


def test_a_config_without_our_vit_or_without_mean_is_refused(tmp_path):
    configs = SuiteConfigs('small')
    with pytest.raises(ValueError, match='no ViT with an `arch`'):
        configs.architecture('demo/mask-rcnn_timm-micro_nuclei.py', {})
    (tmp_path / 'a.py').write_text("model = dict(encoder=dict(arch='tiny'), data_preprocessor=dict(mean='checkpoint'))")
    with pytest.raises(ValueError, match=re.escape("has mean='checkpoint' and std=None")):
        configs.architecture(str(tmp_path / 'a.py'), {})


def test_made_encoders_are_listed_with_the_minutes_of_all_they_start_from(tmp_path):
    made = made_experiment(tmp_path, checkpoints=('continued', 'twice'))
    plan(made)
    on_gpu = {'hardware': {'GPUs': 'one'}}
    for key, environment in (('mae/one', {'hardware': {}}), ('continued', on_gpu)):
        result = {'values': {'loss': 0.5}, 'cpu_minutes': 2.0, 'minutes': 5.0, 'seconds': 600}
        result['environment'] = environment
        (made.made.folder(key) / experiment_dir.RESULT).write_text(json.dumps(result))
    assert [(encoder.key, encoder.minutes, encoder.data) for encoder in made_encoders(made)] == [
        ('mae/one', 2.0, ()), ('continued', 7.0, ('two',))], 'twice is not made yet'
