"""The training of every peer: its minutes are used up, validations are free, and the learning rate is a cosine."""
import itertools
import math

import pytest
import torch
from torch import nn

from mae_backbone.transfer.peers.training import Learner, lr_factor, train_for_minutes


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Counting(Learner[int]):
    """Batches take 2 s and are numbers, validations take a minute."""

    def __init__(self, clock: Clock, lr: float = 0.5) -> None:
        self.clock, self.rates, self.weight = clock, [], nn.Parameter(torch.ones(()))
        self.optimizer = torch.optim.SGD([self.weight], lr=lr)

    def batches(self):
        for number in itertools.count(1):
            self.clock.seconds += 2
            yield number

    def loss(self, batch: int):
        self.rates.append(self.optimizer.param_groups[0]['lr'])
        self.last = batch
        return self.weight.square()

    def evaluate(self) -> dict[str, float]:
        self.clock.seconds += 60
        return {'number': float(self.last)}


def test_the_minutes_are_used_and_validations_are_free():
    clock = Clock()
    found = train_for_minutes(Counting(clock), {'minutes': 0.5}, clock=clock)
    assert (found['steps'], found['cpu_minutes'], found['values']) == (15, 0.5, {'number': 15.0})
    assert found['curves'] == {'number': [[5, 0.1667, 5.0], [10, 0.3333, 10.0], [15, 0.5, 15.0]]}
    assert clock.seconds == 30 + 3 * 60


def test_less_time_than_a_step_is_one_step_with_its_validation():
    clock = Clock()
    found = train_for_minutes(Counting(clock), {'minutes': 1e-6}, clock=clock)
    assert (found['steps'], found['curves']) == (1, {'number': [[1, 0.0333, 1.0]]})


def test_the_learning_rate_is_a_cosine_over_the_minutes_after_a_linear_rise():
    clock = Clock()
    learner = Counting(clock)
    train_for_minutes(learner, {'minutes': 0.5}, clock=clock)
    assert learner.rates == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 15)) for step in range(15)])
    assert [lr_factor(0.0, 0.2), lr_factor(0.1, 0.2) / lr_factor(0.1)] == pytest.approx([0.001, 0.5005])
    assert [lr_factor(part, 0.2) for part in (0.2, 0.5, 1.0)] == pytest.approx([lr_factor(0.2), 0.5, 0.0])


def test_a_loss_that_is_not_finite_ends_the_training():
    clock = Clock()
    with pytest.raises(ValueError, match=r'the loss is (inf|nan) in step \d+: set a smaller lr'):
        train_for_minutes(Counting(clock, lr=1e30), {'minutes': 0.5}, clock=clock)
