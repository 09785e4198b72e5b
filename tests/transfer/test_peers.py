"""Peers: they use the same labels and seeds, for the minutes that they are given, and stand in the same table."""
import itertools

import pytest
import torch
from helpers.class_folders import write_classes
from helpers.made_encoders import MADE_SUITE, made_experiment
from torch import nn

from mae_backbone.transfer import experiment_dir, peers
from mae_backbone.transfer.image_results import from_text
from mae_backbone.transfer.peers import small_resnet18, train_classifier, train_peer
from mae_backbone.transfer.planning import cell_results, plan
from mae_backbone.transfer.suite import PEERS
from mae_backbone.transfer.worker import run_cell


def tiny(num_classes: int, image_size: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))


def spec_of(root: str, **more: object) -> dict:
    return {'data_root': root, 'labels': 1.0, 'seed': 0, 'minutes': 0.2, 'options': {}, **more}


def test_a_peer_trains_until_its_minutes_are_used_and_validations_are_free(tmp_path):
    seconds = itertools.count(0, 0.5)  # each step takes half a second
    spec = spec_of(str(write_classes(tmp_path / 'data')))
    found = train_classifier(spec, clock=lambda: next(seconds), build=tiny, image_size=16, batch_size=4, lr=0.5)
    assert (found['steps'], found['cpu_minutes']) == (24, 0.2)
    assert [steps for steps, _, _ in found['curves']['top-1']] == [4, 8, 12, 16, 20, 24]
    assert found['curves']['top-1'][-1] == [24, 0.2, found['values']['top-1']]
    assert found['values']['top-1'] == 100, 'brightness tells the classes apart'
    assert from_text(found['correct']).tolist() == [True] * 8


def test_the_same_seed_gives_the_same_result_and_few_labels_are_enough(tmp_path):
    spec = spec_of(str(write_classes(tmp_path / 'data')), labels=0.1)
    found = [train_classifier(spec, clock=map(float, itertools.count()).__next__, build=tiny, image_size=16)
             for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.parametrize('has', [True, False])
def test_mixed_precision_needs_a_cpu_with_instructions_for_it(tmp_path, monkeypatch: pytest.MonkeyPatch, has: bool):
    monkeypatch.setattr(peers, 'cpu_has_bfloat16', lambda: has)
    seen = set()

    class Watched(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.mean((2, 3)))
            seen.add((self.training, logits.dtype))
            return logits
    spec = spec_of(str(write_classes(tmp_path / 'data')), amp=True)
    clock = map(float, itertools.count()).__next__
    train_classifier(spec, clock=clock, build=lambda classes, _: Watched(3, classes), image_size=16)
    assert seen == {(True, torch.bfloat16 if has else torch.float32), (False, torch.float32)}


def test_small_images_keep_their_resolution():
    model = small_resnet18(10, 32).eval()
    maps = nn.Sequential(*list(model.children())[:-2])
    with torch.no_grad():
        assert maps(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
        assert small_resnet18(10, 224).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_a_peer_stands_beside_the_task_of_the_encoders(tmp_path):
    task = "resnet18=dict(peer='resnet18', beside='tune', minutes=0.01, data=['two'], seeds=[0]),\n    tune=dict("
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


@pytest.mark.parametrize('peer', PEERS)
def test_every_peer_can_be_trained(tmp_path, peer: str):
    root = str(write_classes(tmp_path / 'data', train=3, val=1))
    found = train_peer(spec_of(root, peer=peer, minutes=1e-6))
    assert found['steps'] == 1
    assert 0 <= found['values']['top-1'] <= 100
