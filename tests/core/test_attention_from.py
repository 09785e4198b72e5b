"""Attention of a patch: the same weights as in the forward pass of the block."""
import pytest
import torch
from torch.testing import assert_close

from mae_backbone.core.attention_from import attention_from
from mae_backbone.core.vit import ViT

TINY = dict(arch=dict(width=32, depth=3, heads=4), image_size=(40, 56), patch_size=8)
KINDS = {
    'class token': dict(),
    'no class token': dict(class_token=False),
    'relative positions': dict(class_token=False, relative_positions=True),
    'windows with relative positions': dict(class_token=False, relative_positions=True, window_size=3),
    'shifted windows': dict(class_token=False, window_size=4, shifted_windows=True),
    'a table in each block': dict(relative_bias='block'),
    'a shared table': dict(relative_bias='shared'),
}


def randomized(**options) -> ViT:
    vit = ViT(**TINY | options).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit


@pytest.mark.parametrize('size', [(40, 56), (64, 48)], ids=['size of the model', 'another size'])
@pytest.mark.parametrize('kind', KINDS)
def test_values_weighted_by_it_are_what_the_block_computes(kind, size):
    vit, images = randomized(**KINDS[kind]), torch.randn(2, 3, *size)
    h, w = (side // 8 for side in size)
    for block in range(3):
        calls = []
        attn = vit.blocks[block].attn
        hook = attn.register_forward_hook(lambda *call, calls=calls: calls.append(call[1:]), with_kwargs=True)
        vit.feature_maps(images)
        hook.remove()
        (tokens, *_), options, output = calls[0]
        normed = options['before'](tokens)
        for patch in ((0, 0), (h - 1, w - 1), (1, 2)):
            weights, first = attention_from(vit, images, patch, block=block)
            values = attn.qkv(normed)[..., 64:].unflatten(2, (4, 8)).transpose(1, 2)  # (B, heads, N, d)
            row = weights.flatten(2)
            if vit.cls_token is not None:
                row = torch.cat([first[..., None], row], dim=2)
            # The padding of windows has the bias of the projection as its value.
            padding = (1 - row.sum(2))[..., None] * attn.qkv.bias[64:].unflatten(0, (4, 8))
            mixed = torch.einsum('bhn,bhnd->bhd', row, values) + padding
            query = tokens.shape[1] - h * w + patch[0] * w + patch[1]
            assert_close(attn.proj(mixed.flatten(1)), output[:, query], atol=1e-5, rtol=1e-4)


def test_weights_stay_in_the_window_of_the_patch():
    vit = randomized(class_token=False, window_size=3)
    weights, _ = attention_from(vit, torch.randn(1, 3, 40, 56), (1, 4))
    assert (weights[..., :3, 3:6] > 0).all()
    assert weights.count_nonzero() == 4 * 9


def test_weights_add_up_to_one():
    weights, first = attention_from(randomized(), torch.randn(1, 3, 40, 56), (2, 3))
    assert weights.shape == (1, 4, 5, 7)
    assert_close(weights.sum((2, 3)) + first, torch.ones(1, 4))


@pytest.mark.parametrize(('patch', 'block', 'message'), [
    ((5, 0), -1, r'patch=\(5, 0\) is not on the grid of 5x7 patches'), ((0, -1), -1, 'is not on the grid'),
    ((0, 0), 3, 'block=3, the 3 blocks are numbered from 0')])
def test_what_does_not_exist_is_refused(patch, block, message):
    with pytest.raises(ValueError, match=message):
        attention_from(randomized(), torch.randn(1, 3, 40, 56), patch, block=block)
