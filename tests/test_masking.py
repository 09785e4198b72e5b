"""The mask splits the patches of each image in two, and puts them together again."""
import pytest
import torch
from torch import Tensor

from mae_backbone.masking import Mask, mask_from_noise, random_mask


def seeded_mask(tokens: Tensor, ratio: float, seed: int = 0) -> Mask:
    return random_mask(tokens, ratio, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(('L', 'ratio', 'K'), [(16, 0.75, 4), (196, 0.75, 49), (10, 0.5, 5), (7, 0.6, 2), (2, 0.5, 1)])
def test_every_image_has_k_visible_patches_and_each_patch_is_on_one_side(L: int, ratio: float, K: int):
    tokens = torch.randn(5, L, 3)
    mask = seeded_mask(tokens, ratio)
    assert mask.keep.shape == (5, K)
    for keep, drop, hidden in zip(mask.keep, mask.drop, mask.hidden, strict=True):
        assert sorted(torch.cat([keep, drop]).tolist()) == list(range(L))
        assert hidden.nonzero().flatten().tolist() == sorted(drop.tolist())


def test_unshuffle_is_the_inverse_of_the_split():
    tokens = torch.randn(3, 16, 2)
    mask = seeded_mask(tokens, 0.75)
    assert torch.equal(mask.unshuffle(mask.visible(tokens), mask.concealed(tokens)), tokens)
    assert torch.equal(torch.cat([mask.keep, mask.drop], 1).gather(1, mask.restore), torch.arange(16).expand(3, -1))


def test_what_is_shared_by_all_images_is_split_for_each():
    positions = torch.randn(1, 16, 2)
    mask = seeded_mask(torch.zeros(3, 16, 1), 0.75)
    assert torch.equal(mask.visible(positions), mask.visible(positions.repeat(3, 1, 1)))
    assert torch.equal(mask.concealed(positions)[2], positions[0, mask.drop[2]])


def test_the_lowest_noise_stays_visible_in_ascending_order():
    mask = mask_from_noise(torch.tensor([[0.3, 0.9, 0.1, 0.5]]), 0.5)
    assert mask.keep.tolist() == [[2, 0]]
    assert mask.drop.tolist() == [[3, 1]]


def test_noise_gives_the_masks_of_the_public_mae(golden_mae: dict[str, Tensor]):
    mask = mask_from_noise(golden_mae['noise'], 0.75)
    assert torch.equal(mask.hidden.float(), golden_mae['mask'])
    assert torch.equal(mask.restore, golden_mae['ids_restore'])


def test_masks_are_drawn_anew_for_each_image_and_call_and_follow_the_generator():
    tokens = torch.zeros(4, 64, 1)
    mask = seeded_mask(tokens, 0.75)
    assert len({tuple(row) for row in mask.hidden.tolist()}) == 4
    assert all(torch.equal(a, b) for a, b in zip(mask, seeded_mask(tokens, 0.75), strict=True))
    assert not torch.equal(mask.hidden, seeded_mask(tokens, 0.75, seed=1).hidden)
    assert not torch.equal(random_mask(tokens, 0.75).hidden, random_mask(tokens, 0.75).hidden)


def test_every_patch_is_hidden_as_often_as_the_ratio_says():
    share = seeded_mask(torch.zeros(4000, 16, 1), 0.75).hidden.float().mean(0)
    assert (share - 0.75).abs().max() < 0.03  # more than four standard deviations


@pytest.mark.parametrize('ratio', [0.0, 1.0, 0.95, 1.5, -0.1])
def test_a_ratio_that_leaves_nothing_to_see_or_to_predict_is_refused(ratio: float):
    with pytest.raises(ValueError, match=f'mask_ratio={ratio} leaves .* of 16 patches visible.*paper.*0.75'):
        random_mask(torch.zeros(2, 16, 1), ratio)
