"""k-NN and linear accuracy of the features are measured during pretraining."""
from pathlib import Path

import pytest
import torch
from helpers.pretraining_runs import RandomCrops, log_of, runner

from mae_backbone.evaluation.knn import knn_predict
from mae_backbone.hooks.feature_monitor import Features
from mae_backbone.hooks.online_probe import probe, ridge_predict
from mae_backbone.hooks.scalar_history import history
from mae_backbone.registry import DATASETS


@DATASETS.register_module()
class TwoBrightnesses(RandomCrops):
    """Even images are dark, odd ones bright."""

    def __init__(self, number: int, *, labels: bool = True) -> None:
        super().__init__(number, labels=labels)


def data(number: int, **options: object) -> dict:
    return dict(type='mae_backbone.TwoBrightnesses', number=number, **options)


def test_run_is_probed_from_the_start_and_logs_the_cost(tmp_path: Path):
    hook = dict(type='mae_backbone.ProbeHook', train=data(40), val=data(20), interval=1, images=24, workers=0)
    run = runner(tmp_path, [hook], dict(by_epoch=True, max_epochs=2))
    run.train()
    for name in ('knn/mean', 'knn/class', 'linear/mean', 'linear/class'):
        at, percent = history(run.message_hub, name)
        assert at.tolist() == [0, 2, 4]
        assert ((percent >= 0) & (percent <= 100)).all()
    assert (history(run.message_hub, 'linear/mean')[1] > 90).all()  # random features contain the brightness
    said = log_of(tmp_path)
    assert said.count('24 + 12 images') == 3
    assert '% of the run so far' in said


def test_more_neighbors_than_images_are_lowered_and_said(tmp_path: Path):
    hook = dict(type='mae_backbone.ProbeHook', train=data(8), val=data(8), interval=1, workers=0)
    run = runner(tmp_path, [hook], dict(by_epoch=True, max_epochs=2))
    run.train()
    assert log_of(tmp_path).count('k=20 neighbors, but the bank has 8 images: k=8 is used') == 1


def test_images_without_classes_raise_before_training(tmp_path: Path):
    hook = dict(type='mae_backbone.ProbeHook', train=data(8, labels=False), val=data(8), workers=0)
    run = runner(tmp_path, [hook], dict(by_epoch=True, max_epochs=2))
    with pytest.raises(ValueError, match=r'ProbeHook\.train: the images have no classes'):
        run.train()
    assert run.iter == 0


def test_a_class_without_training_images_is_refused():
    """Its validation images would count as errors."""
    train, val = (Features(torch.randn(6, 4), torch.randn(6, 4), torch.ones(6), torch.tensor(labels))
                  for labels in ([0, 0, 0, 2, 2, 2], [0, 0, 1, 1, 2, 2]))
    with pytest.raises(ValueError, match=r'ProbeHook\.val has class 1, and ProbeHook\.train has no image of it'):
        probe(train, val, k=1)


def clusters(number: int, classes: int, width: int, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    centers = torch.randn(classes, width, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (number,), generator=generator)
    return centers[labels] + noise * torch.randn(number, width, generator=generator), labels


def features(data: tuple[torch.Tensor, torch.Tensor]) -> Features:
    return Features(data[0], -data[0].flip(1), torch.zeros(len(data[0])), data[1])


def test_probe_equals_knn_predict_and_ridge_predict():
    train, val = clusters(200, 4, 8, 1.0, seed=1), clusters(100, 4, 8, 1.0, seed=2)
    accuracies = probe(features(train), features(val), k=5)
    knn = knn_predict(val[0], train[0], train[1], num_classes=4, k=5)
    assert accuracies['knn/mean'] == pytest.approx(100 * float((knn == val[1]).double().mean()))
    linear = ridge_predict(val[0], train[0], train[1], classes=4)
    assert accuracies['linear/mean'] == accuracies['linear/class'] == 100 * float((linear == val[1]).double().mean())


def test_ridge_equals_the_normal_equations():
    bank, labels = clusters(60, 3, 5, 1.0, seed=1)
    new, _ = clusters(40, 3, 5, 1.0, seed=2)
    mean, deviation = bank.mean(0), bank.std(0, correction=0)
    design = torch.cat([(bank - mean) / deviation, torch.ones(60, 1)], 1).double()
    strength = torch.diag(torch.tensor([0.1 * 60] * 5 + [0.0])).double()  # the offset is not shrunk
    weights = torch.linalg.solve(design.T @ design + strength, design.T @ torch.eye(3)[labels].double())
    wanted = (torch.cat([(new - mean) / deviation, torch.ones(40, 1)], 1).double() @ weights).argmax(1)
    assert torch.equal(ridge_predict(new, bank, labels, classes=3, strengths=[0.1]), wanted)


def test_cross_validation_chooses_a_good_strength():
    """With few images of many noisy features, predictions without regularization are random."""
    train, val = clusters(80, 2, 76, 3.0, seed=1), clusters(2000, 2, 76, 3.0, seed=2)
    accuracy = {}
    for strength in (1e-5, 1.0):
        predictions = ridge_predict(val[0], *train, classes=2, strengths=[strength])
        accuracy[strength] = float((predictions == val[1]).double().mean())
    chosen = float((ridge_predict(val[0], *train, classes=2) == val[1]).double().mean())
    assert accuracy[1e-5] + 0.1 < accuracy[1.0]
    assert chosen > accuracy[1.0] - 0.03


@pytest.mark.parametrize('number', [5, 50])
def test_few_images_and_constant_features_work(number: int):
    bank, labels = clusters(number, 2, 20, 0.1, seed=1)
    bank[:, 3] = 7.0
    assert torch.equal(ridge_predict(bank, bank, labels, classes=2), labels)


def test_class_missing_in_the_bank_raises():
    train = clusters(20, 2, 4, 1.0, seed=1)
    val = (train[0], torch.full((20,), 5))
    with pytest.raises(ValueError, match=r'ProbeHook\.val has class 5'):
        probe(features(train), features(val))
