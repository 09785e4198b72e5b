"""Windows split a grid into squares and join them again."""
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mae_backbone.core.windows import Windows


@pytest.mark.parametrize(('grid', 'size'), [((4, 6), 2), ((5, 7), 3), ((2, 2), 3), ((1, 4), 4)])
def test_join_inverts_split(grid: tuple[int, int], size: int):
    h, w = grid
    tokens = torch.randn(2, h * w, 3)
    windows = Windows(grid, size).split(tokens)
    padded = np.zeros((2, -(-h // size) * size, -(-w // size) * size, 3), np.float32)
    padded[:, :h, :w] = tokens.reshape(2, h, w, 3).numpy()
    wanted = [padded[b, y:y + size, x:x + size].reshape(size * size, 3) for b in range(2)
              for y in range(0, padded.shape[1], size) for x in range(0, padded.shape[2], size)]
    assert_close(windows.numpy(), np.stack(wanted), atol=0, rtol=0)
    assert torch.equal(Windows(grid, size).join(windows), tokens)


@pytest.mark.parametrize('shift', [0, 1, 2])
@pytest.mark.parametrize('side', [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_groups_are_the_places_that_hold_tokens(side: int, shift: int):
    windows = Windows((side, 2), 3, shift)
    places = windows.split(torch.arange(1, 2 * side + 1).reshape(1, -1, 1))  # padding is 0
    rows = places.unflatten(0, (windows.padded_grid[0] // 3, -1)).unflatten(2, (3, 3)).amax((1, 3, 4)) > 0
    wanted = [held.nonzero().flatten().tolist() for held in rows if held.any()]
    found = [list(range(*group.places)) for group in windows.groups(0)
             for _ in range((group.last - group.first) // (group.places[1] - group.places[0]))]
    assert found == wanted
    assert [i for group in windows.groups(0) for i in range(group.first, group.last)] == list(range(side))
    neighbors = [group.places for group in windows.groups(0)]
    assert all(a != b for a, b in pairwise(neighbors))


def test_windows_are_padded_with_given_values():
    windows, filling = Windows((4, 5), 3, 1), torch.tensor([7.0, 8.0])
    tokens = torch.randn(2, 20, 2)
    found, zeros = windows.split(tokens, filling), windows.split(tokens)
    assert_close(found, torch.where((windows.split(torch.ones(2, 20, 1)) > 0), zeros, filling))
    assert torch.equal(windows.join(found), tokens)


@pytest.mark.parametrize('shift', [0, 1, 2, 3])
@pytest.mark.parametrize('grid', [(4, 6), (5, 7), (2, 3), (8, 8)])
def test_shifted_windows_are_rectangles_cut_elsewhere(grid: tuple[int, int], shift: int):
    size, (h, w) = 4, grid
    tokens = torch.randn(2, h * w, 8)
    whole = Windows(grid, size, shift)
    windows = whole.split(tokens)
    assert torch.equal(whole.join(windows), tokens)
    assert len(windows) * size**2 == 2 * math.prod(whole.padded_grid)
    starts = [range(shift - size if shift else 0, side, size) for side in grid]
    corners = [(top, left) for top in starts[0] for left in starts[1]]
    assert len(windows) == 2 * len(corners)
    image = tokens.reshape(2, h, w, 8)
    for number, (top, left) in enumerate(corners):
        wanted = image[0, max(top, 0):top + size, max(left, 0):left + size]
        found = windows[number].reshape(size, size, 8)[max(-top, 0):, max(-left, 0):]
        assert torch.equal(found[:wanted.shape[0], :wanted.shape[1]], wanted)
        assert windows[number].count_nonzero() == wanted.count_nonzero()


@pytest.mark.parametrize('shift', [0, 1, 2])
@pytest.mark.parametrize(('grid', 'size'), [((4, 6), 2), ((5, 7), 3), ((2, 2), 3), ((1, 4), 4), ((9, 3), 3)])
def test_windows_of_an_exported_graph_equal_those_of_slices(grid: tuple[int, int], size: int, shift: int):
    windows, tokens = Windows(grid, size, shift), torch.randn(2, grid[0] * grid[1], 3)
    for padding in (None, torch.tensor([7.0, 8.0, 9.0])):
        split = windows.split(tokens, padding)
        assert torch.equal(windows._gather_windows(tokens, padding), split)
        assert torch.equal(windows._gather_tokens(split), tokens)
