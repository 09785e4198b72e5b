"""Boxes have torchvision's distribution."""
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from mae_backbone.data.counter_rng import uniforms
from mae_backbone.data.crops import ATTEMPTS, NUM_UNIFORMS, random_box


@pytest.mark.parametrize(('size', 'scale'), [((375, 500), (0.2, 1)), ((40, 400), (0.2, 1)), ((300, 60), (0.05, 0.5))])
def test_boxes_have_the_distribution_of_torchvision(size, scale):
    torch.manual_seed(0)
    image = torch.zeros(1).expand(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(2000)])
    numbers = uniforms(np.arange(2000), NUM_UNIFORMS, stream=1)
    ours = np.array([random_box(*size, row, scale) for row in numbers])
    for one, two in zip(ours.T, theirs.T, strict=True):
        assert distance(one, two) < 1.95 * (2 / 2000)**.5  # Kolmogorov-Smirnov, one in a thousand
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= size).all()


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """Largest difference of the two samples' distribution functions."""
    places = np.sort(np.concatenate([one, two]))
    return float(np.abs(np.searchsorted(np.sort(one), places, 'right') / len(one)
                        - np.searchsorted(np.sort(two), places, 'right') / len(two)).max())


def test_box_equals_torchvision_for_the_same_numbers(monkeypatch):
    """Their draws, one after the other, are put in the places where ours look for them."""
    shares, places = [], []
    uniform, randint = torch.Tensor.uniform_, torch.randint
    monkeypatch.setattr(torch.Tensor, 'uniform_', lambda self, low, high: _note(
        uniform(self, low, high), lambda value: shares.append((value - low) / (high - low))))
    monkeypatch.setattr(torch, 'randint', lambda low, high, size: _note(
        randint(low, high, size=size), lambda value: places.append((value + 0.5) / high)))
    torch.manual_seed(0)
    fallbacks = 0
    for size in [(375, 500), (64, 48), (1, 1), (1, 200), (200, 1), (60, 130), (130, 60)] * 30:
        shares.clear(), places.clear()
        theirs = RandomResizedCrop.get_params(torch.zeros(1).expand(3, *size), (0.2, 1), (3 / 4, 4 / 3))
        numbers = np.zeros(NUM_UNIFORMS)
        numbers[:len(shares)], numbers[2 * ATTEMPTS:] = shares, places or 0
        assert random_box(*size, numbers, (0.2, 1)) == tuple(theirs)
        fallbacks += not places
    assert 30 < fallbacks < 180


def _note(value: torch.Tensor, note: Callable[[float], None]) -> torch.Tensor:
    note(value.item())
    return value
