"""The MAE equals the public code; hidden pixels do not reach the encoder, visible ones not the loss."""
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import (
    BlockMasking,
    GridMasking,
    Mask,
    Masking,
    mask_from_noise,
    noise_from_seeds,
    random_mask,
)
from mae_backbone.core.patches import image_statistics, patch_statistics, patchify, unpatchify
from mae_backbone.core.vit import ViT


def tiny(*, norm_pix: bool | str = True, masking: Masking | None = None, **encoder) -> MAE:
    options = dict(arch=dict(width=32, depth=2, heads=2), image_size=32, patch_size=8, fixed_positions=True)
    return MAE(ViT(**options | encoder), decoder_width=16, decoder_depth=1, decoder_heads=2, masking=masking,
               norm_pix=norm_pix)


def fixed_mask(images: Tensor, model: MAE) -> Mask:
    return random_mask(patchify(images, model.encoder.patch_size), 0.75)


def latent(model: MAE, images: Tensor, mask: Mask) -> Tensor:
    patches = patchify(images, model.encoder.patch_size)
    return model.encoder.encode(model.encoder.embed_visible(patches, mask, model.encoder.check(images)))


# ---- equal to the public code

@pytest.fixture
def public_model(golden_mae: dict[str, Tensor]) -> MAE:
    model = MAE(ViT(dict(width=48, depth=2, heads=3), image_size=64, patch_size=8), decoder_width=32, decoder_depth=1,
                decoder_heads=2)
    model.load_state_dict({_ours(key.removeprefix('model.')): value for key, value in golden_mae.items()
                           if key.startswith('model.')})
    return model


def _ours(name: str) -> str:
    return ('decoder.' if name.startswith(('decoder_', 'mask_token')) else 'encoder.') + name


def test_latent_and_pixels_equal_public_mae(public_model: MAE, golden_mae: dict[str, Tensor]):
    mask = mask_from_noise(golden_mae['noise'], 0.75)
    found = latent(public_model, golden_mae['images'], mask)
    assert_close(found, golden_mae['latent'], atol=1e-5, rtol=0)
    assert_close(public_model.decoder.predict_all(found, mask, (8, 8)), golden_mae['pred'], atol=1e-5, rtol=0)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_loss_equals_public_mae(public_model: MAE, golden_mae: dict[str, Tensor], norm_pix: bool):
    public_model.norm_pix = norm_pix
    mask = mask_from_noise(golden_mae['noise'], 0.75)
    loss, pixels, _ = public_model(golden_mae['images'], mask)
    assert_close(loss, golden_mae[f'loss_norm_pix_{norm_pix}'], atol=1e-5, rtol=0)
    assert_close(pixels, mask.take_hidden(golden_mae['pred']), atol=1e-5, rtol=0)


# ---- what may know of what

def test_hidden_pixels_do_not_reach_latent_or_prediction():
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    mask = fixed_mask(images, model)
    before, pixels = latent(model, images, mask), model(images, mask)[1]
    hidden = mask.hidden.reshape(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = torch.where(hidden, torch.randn(2, 3, 32, 32), images)
    assert torch.equal(latent(model, changed, mask), before)
    assert torch.equal(model(changed, mask)[1], pixels)
    assert not torch.equal(latent(model, torch.where(hidden, images, images + 1), mask), before)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_loss_ignores_visible_pixels(norm_pix: bool):
    model, patches = tiny(norm_pix=norm_pix), torch.randn(2, 16, 192)
    mask, pixels = random_mask(patches, 0.75), torch.randn(2, 12, 192)
    total, count = 0, 0
    for b in range(2):
        for i, drop in enumerate(mask.ids_hidden[b]):
            target = patches[b, drop].double().numpy()
            if norm_pix:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            total, count = total + ((pixels[b, i].double().numpy() - target) ** 2).sum(), count + 192
    loss = model.loss(patches, pixels, mask)
    assert loss.item() == pytest.approx(total / count, abs=1e-5)
    changed = torch.where(mask.hidden[..., None], patches, torch.randn(2, 16, 192))
    assert torch.equal(model.loss(changed, pixels, mask), loss)


def test_order_of_the_patches_does_not_matter():
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    mask = fixed_mask(images, model)
    keep, drop = mask.ids_visible[:, torch.randperm(4)], mask.ids_hidden[:, torch.randperm(12)]
    shuffled = Mask(keep, drop, torch.cat([keep, drop], 1).argsort(1), mask.hidden)
    (loss, pixels, _), (other_loss, other_pixels, _) = model(images, mask), model(images, shuffled)
    assert_close(other_loss, loss, atol=1e-6, rtol=0)
    visible = patchify(images, 8).new_zeros(2, 4, 192)
    assert_close(shuffled.unshuffle(visible, other_pixels), mask.unshuffle(visible, pixels), atol=1e-5, rtol=0)


def test_all_but_positions_get_a_gradient():
    model = tiny()
    model(torch.randn(2, 3, 32, 32))[0].backward()
    still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert still == {'encoder.pos_embed', 'decoder.decoder_pos_embed'}
    assert all(parameter.grad.any() for name, parameter in model.named_parameters() if name not in still)


# ---- a batch and its parts

def test_split_batch_has_masks_and_loss_of_whole_batch():
    model, images = tiny(), torch.randn(6, 3, 32, 32)
    seeds, weights = torch.randint(2**62, (6,)), torch.tensor([1.5, 1.5, 1.5, 1.5, 0.0, 0.0])
    whole, _, mask = model(images, seeds=seeds, weights=weights)
    parts = [model(images[i::2], seeds=seeds[i::2], weights=weights[i::2]) for i in range(2)]
    assert_close((parts[0][0] + parts[1][0]) / 2, whole, atol=1e-6, rtol=0)
    assert all(torch.equal(part[2].hidden, mask.hidden[i::2]) for i, part in enumerate(parts))
    assert_close(model(images[:4], seeds=seeds[:4])[0], whole, atol=1e-6, rtol=0)


def test_weights_of_one_give_plain_mean():
    model, images = tiny(), torch.randn(3, 3, 32, 32)
    mask = fixed_mask(images, model)
    assert_close(model(images, mask, weights=torch.ones(3))[0], model(images, mask)[0], atol=1e-6, rtol=0)


def test_masks_depend_on_seeds_or_generator_only():
    model, images, seeds = tiny(), torch.randn(4, 3, 32, 32), torch.arange(4)
    assert torch.equal(model(images, seeds=seeds)[2].ids_visible, model(images, seeds=seeds)[2].ids_visible)
    assert not torch.equal(model(images)[2].ids_visible, model(images)[2].ids_visible)


@pytest.mark.parametrize('masking', [BlockMasking(0.5), GridMasking(0.5)])
def test_given_masking_is_used_and_its_ratio_can_change(masking: Masking):
    model, images, seeds = tiny(masking=masking), torch.randn(4, 3, 32, 32), torch.arange(4)
    for ratio in (0.5, 0.8):
        model.mask_ratio = ratio
        wanted = type(masking)(ratio)(noise_from_seeds(seeds, 16), (4, 4))
        assert torch.equal(model(images, seeds=seeds)[2].ids_visible, wanted.ids_visible)
        assert model.mask_ratio == ratio


# ---- options that the paper does not have

def test_image_normalized_target_has_zero_mean_and_unit_variance():
    images = torch.randn(2, 4, 24, 16) * 7 + 3
    mean, deviation = image_statistics(patchify(images, 8), 4)
    target = unpatchify((patchify(images, 8) - mean) / deviation, 8, (3, 2)).double()
    assert_close(target.mean((2, 3)), torch.zeros(2, 4, dtype=torch.float64), atol=1e-5, rtol=0)
    assert_close(target.var((2, 3)), torch.ones(2, 4, dtype=torch.float64), atol=1e-4, rtol=0)
    model = tiny(norm_pix='image', in_channels=4)
    shifted = images * torch.tensor([2.0, 1, 0.5, 3]).reshape(4, 1, 1) + 10
    mask, pixels = fixed_mask(images, model), torch.randn(2, 5, 256)
    losses = [model.loss(patchify(given, 8), pixels, mask) for given in (images, shifted)]
    assert_close(losses[1], losses[0], atol=1e-4, rtol=0)  # brightness and contrast say nothing


def test_predict_ratio_predicts_part_of_hidden_patches():
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    mask = fixed_mask(images, model)
    model.predict_ratio = 0.5
    loss, pixels, part = model(images, mask)
    assert torch.equal(part.ids_hidden, mask.ids_hidden[:, :6])
    assert pixels.shape == (2, 6, 192)
    assert_close(loss, model.loss(patchify(images, 8), pixels, part))
    others = torch.where(mask.ids_hidden[0, 6:, None] == torch.arange(16), 1.0, 0.0).sum(0).bool()
    changed = patchify(images, 8).masked_fill(others[None, :, None], 0)
    found = model(unpatchify(changed, 8, (4, 4))[:1], Mask(*(side[:1] for side in mask)))[1]
    assert_close(found, pixels[:1], atol=1e-6, rtol=0)
    assert all(picture.shape == images.shape for picture in model.reconstruct(images, mask))


def test_a_predict_ratio_that_takes_all_hidden_patches_changes_no_bit():
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    mask = fixed_mask(images, model)
    results = []
    for model.predict_ratio in (1.0, 0.999):  # 12 hidden patches, rounded up
        model.zero_grad()
        loss = model(images, mask)[0]
        loss.backward()
        results.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_loss_of_part_of_the_patches_is_unbiased():
    """If every hidden patch is chosen equally often, losses and gradients average to those of all patches.

    Exactly, if the prediction of a patch does not depend on the others: here the decoder's attention adds nothing.
    """
    model, images = tiny().double(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for block in model.decoder.decoder_blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
    mask = fixed_mask(images, model)
    weights = torch.tensor([0.5, 1.5], dtype=torch.float64)

    def loss_and_gradient(mask: Mask) -> tuple[torch.Tensor, torch.Tensor]:
        loss = model(images, mask, weights=weights)[0]
        return loss, torch.autograd.grad(loss, model.decoder.decoder_pred.weight)[0]
    whole = loss_and_gradient(mask)
    model.predict_ratio = 0.4  # 5 of 12
    parts = [loss_and_gradient(mask._replace(ids_hidden=mask.ids_hidden.roll(k, 1))) for k in range(12)]
    for value, chosen in zip(whole, zip(*parts, strict=True), strict=True):
        assert_close(torch.stack(chosen).mean(0), value, atol=1e-6, rtol=1e-5)  # errors are summed in float32
    assert len({loss.item() for loss, _ in parts}) == 12


def test_first_hidden_patches_are_a_random_choice():
    counts = torch.zeros(16)
    for masking in (BlockMasking(0.5), GridMasking(0.5)):
        mask = masking(noise_from_seeds(torch.arange(4000), 16), (4, 4))
        for patch in range(16):
            counts[patch] = (mask.first_hidden(2).ids_hidden == patch).sum() / mask.hidden[:, patch].sum()
        assert (counts - 2 / 8).abs().max() < 0.05


@pytest.mark.parametrize('options', [dict(norm_pix='patch'), dict(predict_ratio=0.0), dict(predict_ratio=1.5)])
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(ValueError, match=next(iter(options))):
        MAE(ViT(dict(width=32, depth=2, heads=2), image_size=32, patch_size=8), **options)


# ---- use

@pytest.mark.parametrize(('channels', 'patch_size', 'size'), [(1, 8, (32, 32)), (4, 4, (12, 20)), (3, 14, (56, 28))])
def test_any_channels_patch_sizes_and_image_sizes_work(channels: int, patch_size: int, size: tuple[int, int]):
    model = tiny(in_channels=channels, patch_size=patch_size, image_size=4 * patch_size)
    images = torch.randn(2, channels, *size)
    loss, pixels, mask = model(images)
    L = size[0] * size[1] // patch_size**2
    assert mask.ids_visible.shape == (2, L // 4)
    assert pixels.shape == (2, L - L // 4, channels * patch_size**2)
    assert torch.isfinite(loss)
    assert all(picture.shape == images.shape for picture in model.reconstruct(images))


@pytest.mark.parametrize('norm_pix', [True, False, 'image'])
def test_reconstruction_with_perfect_decoder_is_the_image(norm_pix: bool | str, monkeypatch: pytest.MonkeyPatch):
    model, images = tiny(norm_pix=norm_pix), torch.randn(2, 3, 32, 32)
    mask = fixed_mask(images, model)
    truth = mask.take_hidden(patchify(images, 8))
    mean, deviation = {True: patch_statistics(truth), False: (0, 1),
                       'image': image_statistics(patchify(images, 8), 3)}[norm_pix]
    monkeypatch.setattr(model.decoder, 'forward', lambda *_: (truth - mean) / deviation)
    masked, filled = model.reconstruct(images, mask)
    assert model(images, mask)[0] < 1e-10
    assert_close(filled, images, atol=1e-5, rtol=0)
    hidden = mask.hidden.reshape(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.equal(masked, images * ~hidden)


def test_reconstruction_keeps_visible_pixels_without_gradient():
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    mask = fixed_mask(images, model)
    _, filled = model.reconstruct(images, mask)
    patches, found = patchify(images, 8), patchify(filled, 8)
    assert torch.equal(mask.take_visible(found), mask.take_visible(patches))
    assert not torch.equal(mask.take_hidden(found), mask.take_hidden(patches))
    assert not filled.requires_grad


def test_bfloat16_under_autocast_is_close_and_its_loss_float32():
    model, images = tiny(), torch.randn(4, 3, 32, 32)
    mask = fixed_mask(images, model)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = model(images, mask)[0]
        model.reconstruct(images, mask)
    assert rough.dtype == torch.float32
    assert_close(rough, model(images, mask)[0], atol=0, rtol=1e-2)


def test_training_lowers_loss():
    model, images = tiny(), torch.rand(8, 3, 32, 32).round()
    optimizer, mask, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), fixed_mask(images, model), []
    for _ in range(40):
        loss = model(images, mask)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_invalid_images_and_ratios_are_refused():
    with pytest.raises(ValueError, match=r'image is 30x32.*pad_size_divisor=8'):
        tiny()(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match=r'expected \(B, 3, H, W\)'):
        tiny()(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r'mask_ratio=0.75 leaves 0 of 1 patches visible'):
        tiny()(torch.zeros(1, 3, 8, 8))


def test_an_encoder_without_class_token_is_refused():
    with pytest.raises(ValueError, match='class_token'):
        tiny(class_token=False)


def test_every_tensor_starts_as_in_the_public_code():
    """models_mae.py: Xavier-uniform linear layers and patch embedding, whose bias keeps PyTorch's initialization."""
    torch.manual_seed(0)
    model = MAE(ViT(dict(width=192, depth=1, heads=3), image_size=32, patch_size=8), decoder_width=128, decoder_depth=1,
                decoder_heads=2)
    for name, value in model.named_parameters():
        value = value.detach()
        if name.endswith('patch_embed.proj.bias'):
            assert value.abs().max() <= 1 / math.sqrt(192)
            assert value.std().item() == pytest.approx(1 / math.sqrt(3 * 192), rel=0.2)
        elif name.endswith('.bias') or 'norm' in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith('weight')))), name
        elif name.endswith('_token'):
            assert value.std().item() == pytest.approx(0.02, rel=0.25)
        elif not name.endswith('pos_embed'):
            outputs, inputs = value.flatten(1).shape
            bound = math.sqrt(6 / (outputs + inputs))
            assert value.abs().max() <= bound, name
            assert value.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03), name


def test_patches_of_one_number_are_not_normalized_to_nan():
    encoder = ViT(dict(width=16, depth=1, heads=2), image_size=4, patch_size=1, in_channels=1)
    with pytest.raises(ValueError, match='patches of a single number'):
        MAE(encoder, decoder_width=16, decoder_depth=1, decoder_heads=2)
    loss = MAE(encoder, decoder_width=16, decoder_depth=1, decoder_heads=2, norm_pix=False)(torch.randn(2, 1, 4, 4))[0]
    assert loss.isfinite()


def test_a_decoder_without_blocks_is_refused():
    with pytest.raises(ValueError, match='decoder_depth=0, expected 1 or more blocks'):
        MAE(ViT(dict(width=16, depth=1, heads=2), image_size=32, patch_size=8), decoder_depth=0)
