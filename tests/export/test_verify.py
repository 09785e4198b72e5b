"""Verification accepts equal outputs only, at every size that is dynamic."""
import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mae_backbone.export.target import ExportError, ExportTarget, image_axes
from mae_backbone.export.verify import example_inputs, largest_error, verify


class Double(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return 2 * images


def target(dtype: torch.dtype = torch.float32, *, images: int = 2, **axes: object) -> ExportTarget:
    dynamic = image_axes(**({'batch': True, 'size': True, 'multiple': 8, 'minimum': 16} | axes))
    return ExportTarget(Double(), (torch.zeros(images, 3, 32, 40, dtype=dtype),), ('images',), ('output',),
                        {'images': dynamic})


def double(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [2 * inputs[0]]


def test_equal_outputs_are_accepted_at_three_sizes_with_five_images():
    shapes = []
    result = verify(target(), lambda inputs: shapes.append(inputs[0].shape) or double(inputs))
    assert result.error == 0
    assert result.sizes == ((32, 40), (24, 56), (48, 56))
    assert [sum(batch for batch, _, h, w in shapes if (h, w) == size) for size in result.sizes] == [5, 5, 5]
    assert {batch for batch, *_ in shapes} == {2, 3}
    assert json.loads(result.metadata()['mae_backbone.verified']) == {
        'error': 0, 'limit': 1e-4, 'images': 5, 'sizes': [[32, 40], [24, 56], [48, 56]]}


@pytest.mark.parametrize(('axes', 'shapes'), [
    (dict(size=False), [(2, 3, 32, 40), (3, 3, 32, 40)]), (dict(batch=False, size=False), [(1, 3, 32, 40)] * 5)])
def test_fixed_axes_stay(axes: dict, shapes: list[tuple[int, ...]]):
    fixed = target(images=2 if axes.get('batch', True) else 1, **axes)
    assert [tuple(images.shape) for images, in example_inputs(fixed)] == shapes


def test_images_are_bytes_or_of_mean_0_and_deviation_1():
    images, = next(example_inputs(target()))
    assert abs(images.mean()) < 0.5
    assert 0.5 < images.std() < 1.5
    pixels, = next(example_inputs(target(torch.uint8)))
    assert pixels.dtype == torch.uint8
    assert pixels.float().std() > 20


@pytest.mark.parametrize('change', [lambda x: x + 1e-3, lambda x: x * np.nan, lambda x: x[:, :2], lambda x: x.T])
def test_other_outputs_are_refused(change):
    with pytest.raises(ExportError, match='the exported file differs from the model: largest difference'):
        verify(target(), lambda inputs: [np.asarray(change(2 * inputs[0]))])
    with pytest.raises(ExportError, match='differs'):
        verify(target(), lambda inputs: [])


def test_an_output_that_differs_at_another_size_only_is_refused():
    with pytest.raises(ExportError, match='differs'):
        verify(target(), lambda inputs: [2 * inputs[0] + (inputs[0].shape[2] == 48)])


def test_a_file_that_does_not_run_is_refused():
    def fail(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise RuntimeError('no such operator')
    with pytest.raises(ExportError, match=r'does not run on images of 32x40 \(no such operator\)'):
        verify(target(), fail)


def test_errors_are_relative_to_large_values_and_absolute_for_small_ones():
    small, large = np.float32([0.5, -0.25]), np.float32([50, -1000])
    assert largest_error([small], [small + np.float32(0.01)]) == pytest.approx(0.01, rel=1e-4)
    assert largest_error([small, large], [small, large + 1]) == pytest.approx(1e-3, rel=1e-4)
    assert largest_error([np.int64([1, 2, 3, 4])], [np.int64([1, 2, 3, 5])]) == 0.25
    assert largest_error([], []) == float('inf')


def test_only_outputs_with_decisions_are_compared_with_other_rounding_errors():
    class Order(nn.Module):
        """Order of two numbers that are equal."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)
            nn.init.ones_(self.layer.weight)
            nn.init.zeros_(self.layer.bias)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images.abs() + 1)[:, :, 0, 0].argmax(1)

    def compare(expected: Sequence[np.ndarray], found: Sequence[np.ndarray], others: Sequence = ()) -> float:
        allowed = np.stack([expected[0], *(one for one, in others)])
        return float((allowed != found[0]).all(0).mean())
    decided = dataclasses.replace(target(), module=Order().eval().requires_grad_(False), compare=compare, decides=True)

    def other_way(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [1 - decided.expected(torch.from_numpy(inputs[0]))[0]]
    assert verify(decided, other_way).error == 0
    assert not decided.module.layer._forward_hooks
    with pytest.raises(ExportError, match='differs'):
        verify(dataclasses.replace(decided, decides=False), other_way)
    with pytest.raises(ExportError, match='differs'):
        verify(decided, lambda inputs: [2 + other_way(inputs)[0]])
