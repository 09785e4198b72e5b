"""LinearWarmup: exact in every iteration, alone and before a cosine, and after resuming."""
import copy
import math

import pytest
import torch
from mmengine.optim import CosineAnnealingLR
from torch import nn

from mae_backbone.engine.warmup import LinearWarmup


def sgd(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{'params': [nn.Parameter(torch.zeros(1))], 'lr': rate} for rate in rates], lr=1.0)


def recorded(optimizer: torch.optim.Optimizer, schedulers: list, steps: int) -> list[list[float]]:
    """The learning rates of all groups in each of the next `steps` iterations."""
    rates = []
    for _ in range(steps):
        rates.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()  # schedulers warn if they step first
        for scheduler in schedulers:
            scheduler.step()
    return rates


@pytest.mark.parametrize('length', [1, 2, 250, 187.5, 0.4])
def test_rate_is_linear_up_to_the_length_and_full_after_it(length: float):
    optimizer = sgd(2.0, 0.5)
    rates = recorded(optimizer, [LinearWarmup(optimizer, start_factor=0.001, end=length)], 300)
    for step, actual in enumerate(rates):
        factor = min(1.0, 0.001 + 0.999 * step / length)
        assert actual == pytest.approx([2.0 * factor, 0.5 * factor], rel=1e-12)


def test_length_in_epochs_is_converted():
    scheduler = LinearWarmup.build_iter_from_epoch(optimizer=sgd(1.0), start_factor=1e-9, end=5, epoch_length=7)
    assert (scheduler.length, scheduler.end, scheduler.by_epoch) == (35, 36, False)


def test_cosine_starts_from_the_full_rate():
    optimizer = sgd(1.0)
    schedulers = [LinearWarmup(optimizer, start_factor=1e-9, end=40),
                  CosineAnnealingLR(optimizer, begin=40, end=200, T_max=160, by_epoch=False)]
    for step, (actual,) in enumerate(recorded(optimizer, schedulers, 200)):
        expected = step / 40 if step < 40 else (1 + math.cos(math.pi * (step - 40) / 160)) / 2
        assert actual == pytest.approx(expected, abs=1e-8)


def test_resumed_warmup_continues():
    optimizer = sgd(1.0)
    scheduler = LinearWarmup(optimizer, start_factor=0.01, end=10.5)
    recorded(optimizer, [scheduler], 4)
    states = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    expected = recorded(optimizer, [scheduler], 10)

    optimizer = sgd(1.0)
    scheduler = LinearWarmup(optimizer, start_factor=0.01, end=10.5)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert recorded(optimizer, [scheduler], 10) == expected


@pytest.mark.parametrize(('options', 'message'), [
    (dict(start_factor=0.0, end=5), 'above 0'), (dict(start_factor=2.0, end=5), 'at most 1'),
    (dict(start_factor=0.1, end=0), 'remove the warm-up'), (dict(start_factor=0.1, end=5, by_epoch=True), 'by_epoch')])
def test_invalid_options_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LinearWarmup(sgd(1.0), **options)
