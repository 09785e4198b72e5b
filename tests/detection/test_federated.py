"""Federated loss: its sampled classes, its value, and the class frequencies."""
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from mae_backbone.detection.federated import ClassFrequencyHook, FederatedLoss, count_images_per_class

LABELS = torch.tensor([4, 9, 4, 0, 9])  # 9 is the background


def loss_of(sampled: int, counts: list[int] | None = None, **options) -> FederatedLoss:
    loss = FederatedLoss(sampled, **options)
    loss.image_counts = torch.tensor(counts or [1] * 9)
    return loss


def test_loss_over_all_classes_is_the_sum_of_binary_cross_entropies():
    scores = torch.randn(5, 10)
    target = torch.zeros(5, 9)
    target[[0, 2, 3], [4, 4, 0]] = 1
    expected = F.binary_cross_entropy(scores[:, :9].sigmoid(), target, reduction='sum') / 5
    assert_close(loss_of(9)(scores, LABELS, torch.ones(5), avg_factor=5.0), expected)
    assert_close(loss_of(9, loss_weight=2.0)(scores, LABELS), 2 * expected)


def test_only_sampled_classes_have_a_gradient():
    scores = torch.randn(5, 10, requires_grad=True)
    loss_of(4)(scores, LABELS).backward()
    trained = scores.grad.abs().sum(0) > 0
    assert trained.sum() == 4
    assert trained[0]
    assert trained[4]
    assert not trained[9]


def test_other_classes_are_sampled_by_the_square_root_of_their_frequency():
    loss, drawn = loss_of(3, [5, 0, 100, 400, 5, 0, 0, 0, 0]), torch.zeros(9)
    for _ in range(2000):
        drawn += loss.draw(LABELS, 9)
    assert drawn[[0, 4]].tolist() == [2000, 2000]
    assert drawn[3] / drawn[2] == pytest.approx(20 / 10, rel=0.15)
    assert drawn.sum() == 6000


def test_num_sampled_classes_is_clamped():
    assert loss_of(50).draw(LABELS, 9).all()
    assert loss_of(1).draw(LABELS, 9).nonzero().flatten().tolist() == [0, 4]  # always the classes of the batch


def test_unknown_frequencies_are_refused():
    with pytest.raises(ValueError, match=r'9 classes .* for 0: add custom_hooks.*ClassFrequencyHook'):
        FederatedLoss()(torch.zeros(5, 10), LABELS)


class Images:
    """Three images of four classes, with the interface of mmdet's data sets."""
    labels = ([0, 0, 3], [3], [])

    @property
    def metainfo(self) -> dict:
        return {'classes': tuple('abcd')}

    def __len__(self) -> int:
        return len(self.labels)

    def get_cat_ids(self, i: int) -> list[int]:
        return self.labels[i]


def test_hook_counts_images_inside_wrappers():
    assert count_images_per_class(SimpleNamespace(dataset=SimpleNamespace(dataset=Images()))).tolist() == [1, 0, 0, 2]
    model = nn.ModuleList([FederatedLoss(), nn.Linear(1, 1)])
    loader = SimpleNamespace(dataset=Images())
    ClassFrequencyHook().before_train(SimpleNamespace(model=model, train_dataloader=loader))
    assert model[0].image_counts.tolist() == [1, 0, 0, 2]
