"""FLOPs of recipes: as counted in a step that is run, and what the fast recipes save."""
import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mae_backbone.benchmark import step
from mae_backbone.benchmark.flops import Recipe, flops_per_image, measure, stages_of
from mae_backbone.cli.main import main

SIZE = Namespace(arch='tiny', image_size=[64], patch_size=16, mask_ratio=0.75, decoder=[32, 2, 4], compile='no',
                 device='cpu', batch=1, dtype='float32')
HOOK = dict(type='mae_backbone.ImageSizeHook', stages=[(0, 32), (0.25, 64)])


def test_flops_without_data_equal_those_of_a_step():
    with torch.device('meta'):
        model = step.build_model(SIZE).train()
    model.compile_decided = True
    assert flops_per_image(model, (64, 64)) == step.flops_per_image(SIZE, step.build_ours)
    assert flops_per_image(model, (32, 64)) < 0.6 * flops_per_image(model, (64, 64))


def test_mean_weighs_stages_by_their_length():
    recipe = Recipe('some', [(0.0, (1, 1)), (0.25, (2, 2)), (0.5, (3, 3))], [4.0, 8.0, 16.0], 800, 'epochs')
    assert recipe.mean == 0.25 * 4 + 0.25 * 8 + 0.5 * 16


def test_stages_come_from_the_hook_or_the_sampler_or_the_model():
    loader = dict(batch_sampler=dict(image_sizes=[(0, 32), (2, 64), (9, 96)]))
    epochs, iterations = dict(max_epochs=8), dict(max_iters=8)
    assert stages_of(Config(dict(train_dataloader={}, train_cfg=epochs)), (64, 64)) == [(0.0, (64, 64))]
    assert stages_of(Config(dict(train_dataloader=loader, train_cfg=epochs)), (64, 64)) == [
        (0.0, (32, 32)), (0.25, (64, 64))]
    for place in (dict(custom_hooks=[HOOK]), dict(default_hooks=dict(some=HOOK, none=None))):
        assert stages_of(Config(dict(train_dataloader={}, train_cfg=iterations, **place)), (64, 64)) == [
            (0, (32, 32)), (0.25, (64, 64))]
    with pytest.raises(ValueError, match='start at epochs, and the training counts iterations'):
        stages_of(Config(dict(train_dataloader=loader, train_cfg=iterations)), (64, 64))


@pytest.mark.slow
def test_fast_recipe_of_vit_l_takes_two_thirds_of_the_flops():
    ours, other = measure('mae_vit-l_fast_800e_in1k'), measure('mae_vit-l_800e_in1k')
    assert ours.mean / other.mean < 0.67
    assert (ours.length, ours.unit) == (other.length, other.unit)
    assert ours.stages[-1][1] == other.stages[-1][1]
    assert ours.flops == sorted(ours.flops)


def test_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture):
    fast, plain = 'mae_vit-micro_fast_camvid', 'mae_vit-micro_camvid'
    assert main(['benchmark', 'flops', fast, '--against', plain, '--json', tmp_path / 'flops.json']) == 0
    output = capsys.readouterr().out
    assert 'from  33% of the training: 56x56 pixels' in output
    assert '224,000 images' in output
    result = json.loads((tmp_path / 'flops.json').read_text())
    assert result['ratio']['per_image'] == pytest.approx(
        result['ours']['flops_per_image'] / result['baseline']['flops_per_image'])
    assert [stage['image_size'] for stage in result['ours']['stages']] == [[48, 48], [56, 56], [64, 64]]


def test_other_configs_are_refused(capsys: pytest.CaptureFixture):
    assert main(['benchmark', 'flops', 'vit-micro_knn_cifar10', '--against', 'mae_vit-micro_cifar10']) == 2
    assert 'is no pretraining config' in capsys.readouterr().err
