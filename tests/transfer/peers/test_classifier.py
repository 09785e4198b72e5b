"""The classifier: it uses the same labels and seeds, for the minutes that it is given."""
import itertools

import pytest
import torch
from helpers.class_folders import write_classes
from torch import nn

from mae_backbone.transfer.image_results import from_text
from mae_backbone.transfer.peers import training
from mae_backbone.transfer.peers.classifier import small_resnet18, train_classifier


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
    monkeypatch.setattr(training, 'cpu_has_bfloat16', lambda: has)
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
