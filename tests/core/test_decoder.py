"""The decoder equals a decoder with mask tokens in image order."""
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.core.decoder import MAEDecoder
from mae_backbone.core.masking import Mask, random_mask


def decoder(grid: tuple[int, int] = (3, 4)) -> MAEDecoder:
    return MAEDecoder(12, patch_pixels=10, grid=grid, width=16, depth=2, heads=2)


def latent_and_mask(grid: tuple[int, int] = (3, 4)) -> tuple[Tensor, Mask]:
    mask = random_mask(torch.zeros(2, grid[0] * grid[1], 1), 0.5)
    return torch.randn(2, 1 + mask.ids_visible.shape[1], 12), mask


def in_the_order_of_the_image(model: MAEDecoder, latent: Tensor, mask: Mask, positions: Tensor) -> Tensor:
    """As in the MAE paper, section 3: embed, put mask tokens in, add positions, attend, predict."""
    known = model.decoder_embed(latent)
    tokens = model.mask_token.repeat(len(latent), 1 + mask.hidden.shape[1], 1)
    tokens[:, 0] = known[:, 0]
    for b, keep in enumerate(mask.ids_visible):
        tokens[b, 1 + keep] = known[b, 1:]
    tokens = tokens + positions
    for block in model.decoder_blocks:
        tokens = block(tokens)
    return model.decoder_pred(model.decoder_norm(tokens))[:, 1:]


def test_all_pixels_equal_image_order_decoder():
    model, (latent, mask) = decoder(), latent_and_mask()
    wanted = in_the_order_of_the_image(model, latent, mask, model.decoder_pos_embed)
    assert_close(model.predict_all(latent, mask, (3, 4)), wanted, atol=1e-5, rtol=0)


def test_forward_predicts_hidden_patches_only():
    model, (latent, mask) = decoder(), latent_and_mask()
    pixels = model(latent, mask, (3, 4))
    assert pixels.shape == (2, 6, 10)
    assert_close(pixels, mask.take_hidden(model.predict_all(latent, mask, (3, 4))), atol=1e-6, rtol=0)


@pytest.mark.parametrize('grid', [(6, 5), (2, 2)])
def test_positions_are_interpolated_for_other_grids(grid: tuple[int, int]):
    model, (latent, mask) = decoder(), latent_and_mask(grid)
    stored = model.decoder_pos_embed[:, 1:].reshape(1, 3, 4, 16).permute(0, 3, 1, 2)
    resized = F.interpolate(stored, size=grid, mode='bicubic', align_corners=False).flatten(2).transpose(1, 2)
    wanted = in_the_order_of_the_image(model, latent, mask, torch.cat([model.decoder_pos_embed[:, :1], resized], 1))
    assert_close(model.predict_all(latent, mask, grid), wanted, atol=1e-5, rtol=0)


def test_positions_are_fixed():
    assert [name for name, parameter in decoder().named_parameters() if not parameter.requires_grad] == [
        'decoder_pos_embed']


def test_last_tokens_and_gradients_equal_all_tokens():
    model, (latent, mask) = decoder(), latent_and_mask()
    outcomes = []
    for last in (None, 6):
        model.zero_grad()
        given = latent.clone().requires_grad_()
        tokens = model.decode(given, mask, (3, 4), last=last)[:, -6:]
        (tokens * torch.arange(6.0)[:, None]).sum().backward()
        outcomes.append([tokens, given.grad, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(outcomes[0]) > 20
    for among_all, alone in zip(*outcomes, strict=True):
        assert_close(alone, among_all, atol=1e-4, rtol=1e-4)
