"""Masks split the patches of each image into visible and hidden ones, and unshuffle joins them."""
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mae_backbone.core.masking import (
    BlockMasking,
    GridMasking,
    Mask,
    RandomMasking,
    bayer,
    mask_from_noise,
    noise_from_seeds,
    random_mask,
)

KINDS = (RandomMasking, BlockMasking, GridMasking)


def seeded_mask(tokens: Tensor, ratio: float, seed: int = 0) -> Mask:
    return random_mask(tokens, ratio, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(('L', 'ratio', 'K'), [(16, 0.75, 4), (196, 0.75, 49), (10, 0.5, 5), (7, 0.6, 2), (2, 0.5, 1)])
def test_every_image_has_k_visible_patches_and_all_others_hidden(L: int, ratio: float, K: int):
    tokens = torch.randn(5, L, 3)
    mask = seeded_mask(tokens, ratio)
    assert mask.ids_visible.shape == (5, K)
    for keep, drop, hidden in zip(mask.ids_visible, mask.ids_hidden, mask.hidden, strict=True):
        assert sorted(torch.cat([keep, drop]).tolist()) == list(range(L))
        assert hidden.nonzero().flatten().tolist() == sorted(drop.tolist())


def test_unshuffle_inverts_split():
    tokens = torch.randn(3, 16, 2)
    mask = seeded_mask(tokens, 0.75)
    assert torch.equal(mask.unshuffle(mask.take_visible(tokens), mask.take_hidden(tokens)), tokens)
    shuffle = torch.cat([mask.ids_visible, mask.ids_hidden], 1)
    assert torch.equal(shuffle.gather(1, mask.ids_restore), torch.arange(16).expand(3, -1))


def test_shared_tokens_are_split_per_image():
    positions = torch.randn(1, 16, 2)
    mask = seeded_mask(torch.zeros(3, 16, 1), 0.75)
    assert torch.equal(mask.take_visible(positions), mask.take_visible(positions.repeat(3, 1, 1)))
    assert torch.equal(mask.take_hidden(positions)[2], positions[0, mask.ids_hidden[2]])


def test_lowest_noise_is_visible_in_ascending_order():
    mask = mask_from_noise(torch.tensor([[0.3, 0.9, 0.1, 0.5]]), 0.5)
    assert mask.ids_visible.tolist() == [[2, 0]]
    assert mask.ids_hidden.tolist() == [[3, 1]]


def test_noise_gives_masks_of_public_mae(golden_mae: dict[str, Tensor]):
    mask = mask_from_noise(golden_mae['noise'], 0.75)
    assert torch.equal(mask.hidden.float(), golden_mae['mask'])
    assert torch.equal(mask.ids_restore, golden_mae['ids_restore'])


def test_masks_differ_per_image_and_call_and_follow_generator():
    tokens = torch.zeros(4, 64, 1)
    mask = seeded_mask(tokens, 0.75)
    assert len({tuple(row) for row in mask.hidden.tolist()}) == 4
    assert all(torch.equal(a, b) for a, b in zip(mask, seeded_mask(tokens, 0.75), strict=True))
    assert not torch.equal(mask.hidden, seeded_mask(tokens, 0.75, seed=1).hidden)
    assert not torch.equal(random_mask(tokens, 0.75).hidden, random_mask(tokens, 0.75).hidden)


def test_every_patch_is_hidden_with_probability_ratio():
    share = seeded_mask(torch.zeros(4000, 16, 1), 0.75).hidden.float().mean(0)
    assert (share - 0.75).abs().max() < 0.03  # more than four standard deviations


@pytest.mark.parametrize('ratio', [0.0, 1.0, 0.95, 1.5, -0.1])
def test_ratio_leaving_none_visible_or_hidden_is_refused(ratio: float):
    with pytest.raises(ValueError, match=f'mask_ratio={ratio} leaves .* of 16 patches visible.*paper.*0.75'):
        random_mask(torch.zeros(2, 16, 1), ratio)


# ---- noise from seeds

def splitmix64(x: int) -> int:
    """The published finaliser in Python's whole numbers."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def test_noise_equals_published_hash():
    seeds = [0, 1, 12345, 2**63 - 1]
    wanted = [[splitmix64((splitmix64(seed) + i * 0x9E3779B97F4A7C15) % 2**64) / 2**64 for i in range(1, 6)]
              for seed in seeds]
    noise = noise_from_seeds(torch.tensor(seeds), 5)
    assert noise.dtype == torch.float32
    assert (noise - torch.tensor(wanted, dtype=torch.float64)).abs().max() < 2**-23


def test_noise_depends_only_on_seed():
    seeds = torch.randint(2**62, (6,))
    noise = noise_from_seeds(seeds, 100)
    assert torch.equal(torch.cat([noise_from_seeds(seeds[1::2], 100), noise_from_seeds(seeds[::2], 100)]),
                       torch.cat([noise[1::2], noise[::2]]))
    assert torch.equal(noise_from_seeds(seeds, 30), noise[:, :30])


def test_noise_of_neighboring_seeds_is_uniform_and_independent():
    noise = noise_from_seeds(torch.arange(4096), 64)
    assert 0 <= noise.min()
    assert noise.max() < 1
    counts = torch.histc(noise, bins=256, min=0, max=1)
    assert ((counts - 1024) ** 2 / 1024).sum() < 255 + 5 * (2 * 255) ** 0.5  # chi squared, five standard deviations
    shifted = (noise - 0.5) * 12**0.5
    for a, b in ((shifted[1:], shifted[:-1]), (shifted[:, 1:], shifted[:, :-1]), (shifted[1:, 1:], shifted[:-1, :-1])):
        assert abs((a * b).mean()) < 5 / a.numel() ** 0.5


# ---- kinds of masks

@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('grid', 'ratio'), [((14, 14), 0.75), ((7, 9), 0.5), ((1, 16), 0.3), ((32, 5), 0.9),
                                             ((14, 14), 0.99), ((2, 2), 0.5), ((1, 2), 0.5)])
def test_every_masking_hides_exactly_the_ratio(kind: type, grid: tuple[int, int], ratio: float):
    L = grid[0] * grid[1]
    noise = noise_from_seeds(torch.arange(8), L)
    mask = kind(ratio)(noise, grid)
    assert mask.ids_visible.shape == (8, int(L * (1 - ratio)))
    shuffle = torch.cat([mask.ids_visible, mask.ids_hidden], 1)
    assert torch.equal(shuffle.sort(1).values, torch.arange(L).expand(8, -1))
    assert torch.equal(shuffle.gather(1, mask.ids_restore), torch.arange(L).expand(8, -1))
    assert torch.equal(mask.hidden.gather(1, shuffle), torch.arange(L).expand(8, -1) >= mask.ids_visible.shape[1])
    assert all((noise.gather(1, side).diff(dim=1) >= 0).all() for side in (mask.ids_visible, mask.ids_hidden))


@pytest.mark.parametrize('kind', KINDS)
def test_mask_does_not_depend_on_batch(kind: type):
    noise = noise_from_seeds(torch.arange(6), 196)
    whole, part = kind()(noise, (14, 14)), kind()(noise[[4, 1]], (14, 14))
    assert all(torch.equal(a[[4, 1]], b) for a, b in zip(whole, part, strict=True))
    assert len({tuple(row) for row in kind()(noise, (14, 14)).hidden.tolist()}) > 1


@pytest.mark.parametrize('kind', KINDS)
def test_every_masking_refuses_ratio_leaving_none(kind: type):
    with pytest.raises(ValueError, match=r'mask_ratio=0.99 leaves 0 of 16'):
        kind(0.99)(torch.rand(1, 16), (4, 4))


def edges(hidden: Tensor) -> Tensor:
    """hidden (B, h, w) -> (B,) the number of neighbors on different sides."""
    return (hidden.diff(dim=1) != 0).sum((1, 2)) + (hidden.diff(dim=2) != 0).sum((1, 2))


def test_blocks_are_rectangles_within_grid_of_given_area_and_aspect():
    draws = noise_from_seeds(torch.arange(200), 5 * 60).unflatten(1, (5, 60))
    rectangles = BlockMasking(0.5).rectangles(draws, (14, 14)).float()
    top, left, bottom, right = rectangles.unbind(-1)
    assert ((top >= 0) & (left >= 0) & (bottom <= 14) & (right <= 14)).all()
    height, width = bottom - top, right - left
    assert ((height >= 1) & (width >= 1)).all()
    inside = (height < 14) & (width < 14)
    assert (height * width)[inside].min() >= 9  # 16, of which both sides may be rounded down
    assert (height * width).max() <= 120        # 98, rounded up
    assert (height / width)[inside].min() < 0.4
    assert (height / width)[inside].max() > 1 / 0.4
    assert (top.min(), left.min(), bottom.max(), right.max()) == (0, 0, 14, 14)


def test_blocks_hide_areas_and_random_masks_hide_points():
    noise = noise_from_seeds(torch.arange(64), 196)
    blocks, points = (kind(0.5)(noise, (14, 14)).hidden.reshape(-1, 14, 14).long() for kind in (BlockMasking,
                                                                                               RandomMasking))
    assert edges(blocks).float().mean() < 0.35 * edges(points).float().mean()


def test_first_block_is_hidden_completely():
    noise = noise_from_seeds(torch.arange(32), 196)
    masking, seen = BlockMasking(0.75), []
    rectangles = masking.rectangles
    masking.rectangles = lambda *inputs: seen.append(rectangles(*inputs)) or seen[0]
    hidden = masking(noise, (14, 14)).hidden.reshape(-1, 14, 14)
    for image, (top, left, bottom, right) in zip(hidden, seen[0][:, 0].tolist(), strict=True):
        assert (bottom - top) * (right - left) > 147 or image[top:bottom, left:right].all()


def test_blocks_hide_upper_and_lower_half_equally_often():
    noise = noise_from_seeds(torch.arange(2000), 196)
    rows = BlockMasking(0.6)(noise, (14, 14)).hidden.reshape(-1, 14, 14).float().mean((0, 2))
    assert (rows - rows.flip(0)).abs().max() < 0.05


@pytest.mark.parametrize('grid', [(14, 14), (8, 20)])
def test_grid_shows_one_patch_of_every_2x2(grid: tuple[int, int]):
    mask = GridMasking(0.75)(noise_from_seeds(torch.arange(50), grid[0] * grid[1]), grid)
    visible = ~mask.hidden.reshape(50, grid[0] // 2, 2, grid[1] // 2, 2)
    assert (visible.sum((2, 4)) == 1).all()
    assert (visible == visible[:, :1, :, :1]).all()  # the same one of each
    assert visible.any(0).all()  # and any of them in some image


def test_grid_at_one_half_is_a_chessboard():
    mask = GridMasking(0.5)(noise_from_seeds(torch.arange(9), 64), (8, 8))
    assert (edges(mask.hidden.reshape(-1, 8, 8).long()) == 2 * 7 * 8).all()


def test_grid_of_lower_ratio_shows_patches_of_higher_ratio():
    noise = noise_from_seeds(torch.arange(5), 12 * 7)
    hidden = [GridMasking(ratio)(noise, (12, 7)).hidden for ratio in (0.2, 0.5, 0.6, 0.75, 0.9)]
    assert all((~more | less).all() for more, less in pairwise(hidden))


def test_order_equals_bayer_matrix():
    place = torch.arange(4)
    assert bayer(place[:, None], place, 2).tolist() == [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]
    assert torch.equal(bayer(place[:, None] + 4, place + 8, 2), bayer(place[:, None], place, 2))
