"""Linear probe against torch's own layers and optimizer, and against scikit-learn."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import inv, sqrtm
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.testing import assert_close

from mae_backbone.evaluation.feature_cache import Features
from mae_backbone.evaluation.linear_probe import Setting, linear_probe, split_by_class, train_heads


def clouds(number: int, *, seed: int = 0, classes: int = 5, width: int = 24, spread: float = 3.0) -> Features:
    """Classes around centers that overlap, in correlated features of very different sizes."""
    fixed, draw = (np.random.default_rng(s) for s in (99, seed))
    centers, mixing = fixed.standard_normal((classes, width)), fixed.standard_normal((width, width))
    labels = draw.integers(0, classes, number)
    values = (centers[labels] + spread * draw.standard_normal((number, width))) @ mixing
    values = values * np.logspace(-1, 1, width) + 5
    return Features(torch.from_numpy(values).half(), torch.from_numpy(labels))


@pytest.mark.parametrize('batch_size', [64, 1000])
def test_heads_of_a_sweep_equal_heads_trained_separately(batch_size: int):
    train, options = clouds(200), dict(num_classes=5, epochs=9, batch_size=batch_size)
    settings = [Setting(0.01), Setting(0.3, 0.05), Setting(3e38), Setting(0.05)]  # one of them diverges
    together = train_heads(train, settings, **options)
    assert not together.weight[:, 2].isfinite().all()
    for k in (0, 1, 3):
        alone = train_heads(train, [settings[k]], **options)
        assert_close(together.weight[:, k], alone.weight[:, 0], atol=1e-5, rtol=1e-5)
        assert_close(together.bias[k], alone.bias[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(together.predict(train.values)[:, k], alone.predict(train.values)[:, 0])


def test_sweep_reads_features_as_often_as_one_rate():
    class Counted:
        """Features that count the rows which are taken."""

        def __init__(self, values: torch.Tensor) -> None:
            self.values, self.shape, self.read = values, values.shape, 0

        def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
            self.read += len(rows)
            return self.values[rows]

    reads = []
    for settings in ([Setting(0.01)], [Setting(0.01 * i) for i in range(12)]):
        values, labels = clouds(200)
        train_heads(Features(counted := Counted(values), labels), settings, num_classes=5, epochs=9, batch_size=64)
        reads.append(counted.read)
    assert reads == [(2 + 9) * 200] * 2  # mean and moments, then the epochs


def test_head_equals_torch_sgd():
    train, setting = clouds(200), Setting(0.2, 0.01)
    result = train_heads(train, [setting], num_classes=5, epochs=18, batch_size=1000)
    inputs = F.batch_norm(train.values.double(), None, None, training=True, eps=1e-6)
    inputs = inputs @ torch.from_numpy(inv(sqrtm((inputs.T @ inputs / 200 + 0.01 * torch.eye(24)).numpy())))
    head = nn.Linear(24, 5).double()
    nn.init.zeros_(head.bias)
    head.weight.data = nn.init.trunc_normal_(torch.empty(24, 5), std=0.01,
                                             generator=torch.Generator().manual_seed(0)).T.double()
    optimizer = torch.optim.SGD([dict(params=[head.weight], weight_decay=0.01), dict(params=[head.bias])], lr=0.2,
                                momentum=0.9)
    for epoch in range(18):
        fraction = (epoch + 1) / 3 if epoch < 2 else (1 + math.cos(math.pi * (epoch - 2) / 16)) / 2
        for group in optimizer.param_groups:
            group['lr'] = 0.2 * fraction
        optimizer.zero_grad()
        F.cross_entropy(head(inputs), train.labels).backward()
        optimizer.step()
    assert_close(result.weight[:, 0], head.weight.detach().T.float(), atol=1e-4, rtol=1e-4)
    assert_close(result.bias[0], head.bias.detach().float(), atol=1e-4, rtol=1e-4)
    assert_close(result.scores(train.values)[:, 0], head(inputs).detach().float(), atol=1e-3, rtol=1e-3)


def test_probe_reaches_best_logistic_regression_of_scikit_learn():
    train, test = clouds(2000), clouds(4000, seed=1)
    scaler = StandardScaler().fit(train.values.double().numpy())
    inputs, others = (scaler.transform(part.values.double().numpy()) for part in (train, test))
    best = max(100 * LogisticRegression(C=strength, max_iter=2000).fit(inputs, train.labels.numpy())
               .score(others, test.labels.numpy()) for strength in (1e-3, 1e-2, 0.1, 1.0, 100.0))
    result = linear_probe(train, test)
    assert 40 < best < 95
    assert result.accuracy >= best - 0.3
    assert result.accuracy == pytest.approx(100 * (result.predictions == test.labels).double().mean().item())


def test_test_set_does_not_influence_the_selection():
    train, test = clouds(300), clouds(100, seed=1)
    result = linear_probe(train, test, epochs=9)
    assert result.chosen == max(result.held_out, key=result.held_out.get)
    assert len(result.held_out) == 12
    for other in (Features(test.values, test.labels.flip(0)), Features(test.values[:1], test.labels[:1])):
        again = linear_probe(train, other, epochs=9)
        assert (again.chosen, again.held_out) == (result.chosen, result.held_out)
        assert torch.equal(again.predictions, result.predictions[:len(other.labels)])


def test_same_seed_gives_same_result():
    train, test = clouds(300), clouds(100, seed=1)
    torch.manual_seed(1)
    one = linear_probe(train, test, epochs=9, weight_decays=(0.0, 1e-3))
    torch.manual_seed(2)
    two = linear_probe(train, test, epochs=9, weight_decays=(0.0, 1e-3))
    assert one[:3] == two[:3]
    assert len(one.held_out) == 24
    assert linear_probe(train, test, epochs=9, seed=1).held_out != linear_probe(train, test, epochs=9).held_out


def test_single_setting_learns_from_all_images():
    train = clouds(5)._replace(labels=torch.arange(5))  # an image of each class
    result = linear_probe(train, train, lrs=[0.5])
    assert result.held_out == {}
    assert result.accuracy == 100
    with pytest.raises(ValueError, match='no class has two images'):
        linear_probe(train, train)


def test_class_missing_in_training_counts_as_error():
    train, test = clouds(300, spread=0.1), clouds(100, seed=1, spread=0.1)
    known = train.labels < 3
    result = linear_probe(train.select(known.nonzero()[:, 0]), test, lrs=[0.5])
    assert result.accuracy == pytest.approx(100 * (test.labels < 3).double().mean().item())


@pytest.mark.parametrize('fraction', [0.1, 0.5, 0.99])
def test_split_keeps_and_holds_out_images_of_every_class(fraction: float):
    labels = torch.tensor([0] * 20 + [1] * 2 + [2] + [3] * 7)[torch.randperm(30)]
    learn, choose = split_by_class(labels, fraction, seed=0)
    assert sorted([*learn.tolist(), *choose.tolist()]) == [*range(30)]
    assert labels[learn].unique().tolist() == [0, 1, 2, 3]
    assert labels[choose].unique().tolist() == [0, 1, 3]
    assert torch.equal(learn, split_by_class(labels, fraction, seed=0)[0])
    assert not torch.equal(learn, split_by_class(labels, fraction, seed=1)[0]) or fraction == 0.99


@pytest.mark.parametrize(('change', 'says'), [
    (dict(values=torch.zeros(5, 2, 3)), r'features are \(5, 2, 3\) with labels \(5,\), expected \(N, D\)'),
    (dict(num_classes=4), 'labels are from 0 to 4, expected 0 to 3 for 4 classes'),
    (dict(held_out=1.0), r'held_out=1\.0, expected a fraction'),
])
def test_invalid_arguments_are_refused(change: dict, says: str):
    train = Features(change.pop('values', torch.randn(5, 3)), torch.arange(5))
    with pytest.raises(ValueError, match=says):
        linear_probe(train, train, **{'lrs': [0.1] if 'held_out' not in change else [0.1, 0.2]} | change)


def test_features_of_another_width_are_refused_before_training():
    train, test = Features(torch.randn(6, 3), torch.arange(6) % 2), Features(torch.randn(4, 5), torch.arange(4) % 2)
    with pytest.raises(ValueError, match=r'training features are \(6, 3\), test features \(4, 5\)'):
        linear_probe(train, test, lrs=[0.1])
