"""Patches equal loops in NumPy; pairs of functions are inverses."""
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.core.patches import (
    grid_size,
    patch_statistics,
    patchify,
    sincos_positions,
    unpatchify,
)

SHAPES = [(1, 8, 8, 8), (3, 32, 32, 16), (3, 28, 42, 14), (4, 6, 15, 3), (2, 5, 3, 1)]


def normalized(patches: Tensor) -> Tensor:
    mean, deviation = patch_statistics(patches)
    return (patches - mean) / deviation


@pytest.mark.parametrize(('C', 'H', 'W', 'patch_size'), SHAPES)
def test_unpatchify_inverts_patchify(C: int, H: int, W: int, patch_size: int):
    images = torch.randn(2, C, H, W)
    patches = patchify(images, patch_size)
    assert patches.shape == (2, H // patch_size * (W // patch_size), patch_size**2 * C)
    assert torch.equal(unpatchify(patches, patch_size, grid_size((H, W), patch_size)), images)


def test_patches_are_row_major_and_pixels_y_x_channel():
    images = torch.randn(2, 3, 4, 6)
    for b, patches in enumerate(patchify(images, 2)):
        wanted = [[images[b, c, y + dy, x + dx] for dy in range(2) for dx in range(2) for c in range(3)]
                  for y in range(0, 4, 2) for x in range(0, 6, 2)]
        assert torch.equal(patches, torch.tensor(wanted))


@pytest.mark.parametrize('size', [(30, 32), (32, 30), (8, 32), (0, 16)])
def test_image_not_divisible_by_patch_is_refused(size: tuple[int, int]):
    with pytest.raises(ValueError, match=rf'image is {size[0]}x{size[1]}.*data_preprocessor.pad_size_divisor=16'):
        patchify(torch.zeros(1, 3, *size), 16)


@pytest.mark.parametrize(('grid', 'patch_size'), [((2, 3), 2), ((2, 2), 5)])
def test_wrong_grid_or_patch_size_is_refused(grid: tuple[int, int], patch_size: int):
    with pytest.raises(ValueError, match=f'a grid of {grid[0]}x{grid[1]} needs'):
        unpatchify(torch.zeros(1, 4, 12), patch_size, grid)


def test_normalization_has_the_unbiased_variance_of_each_patch():
    patches = 5 + 3 * torch.randn(2, 7, 12)
    array = patches.double().numpy()
    wanted = (array - array.mean(-1, keepdims=True)) / np.sqrt(array.var(-1, ddof=1, keepdims=True) + 1e-6)
    assert_close(normalized(patches).double(), torch.from_numpy(wanted), atol=1e-5, rtol=0)


def test_denormalize_inverts_normalize():
    patches = 100 * torch.rand(2, 7, 12)
    mean, deviation = patch_statistics(patches)
    assert_close(normalized(patches) * deviation + mean, patches)


def test_patch_of_one_color_stays_finite():
    patches = torch.full((1, 1, 12), 0.7)
    assert_close(normalized(patches), torch.zeros(1, 1, 12), atol=1e-3, rtol=0)
    assert patch_statistics(patches)[1] > 0


@pytest.mark.parametrize(('grid', 'width'), [((2, 3), 8), ((5, 1), 4), ((14, 14), 64)])
def test_sincos_table_equals_loop_with_w_axis_first(grid: tuple[int, int], width: int):
    rows = []
    for y in range(grid[0]):
        for x in range(grid[1]):
            row = []
            for place in (x, y):
                angles = [place / 10_000 ** (4 * i / width) for i in range(width // 4)]
                row += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            rows.append(row)
    table = sincos_positions(grid, width)
    assert table.dtype == torch.float32
    assert_close(table[0].numpy(), np.array(rows, np.float32), atol=1e-6, rtol=0)
    with_token = sincos_positions(grid, width, class_token=True)
    assert torch.equal(with_token[:, 1:], table)
    assert not with_token[:, 0].any()


def test_width_not_divisible_by_four_is_refused():
    with pytest.raises(ValueError, match=r'width=6.*multiple of 4'):
        sincos_positions((2, 2), 6)
