"""The ViT against timm's and the public ViTDet code; windows, positions and the parts of training."""
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.core.masking import random_mask
from mae_backbone.core.patches import patchify
from mae_backbone.core.vit import ARCHS, Arch, Block, ViT, find_arch

TINY = dict(width=48, depth=3, heads=3)
DETECTION = dict(class_token=False, final_norm=False, relative_positions=True)


def tiny(**options) -> ViT:
    """A ViT for 32x32 images in patches of 8; its positions and tables are random, so that each of them counts."""
    model = ViT(TINY, **dict(image_size=32, patch_size=8) | options)
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name or name == 'pos_embed':
            nn.init.normal_(parameter)
    return model


# ---- equal to others

def test_vit_equals_timm():
    reference = VisionTransformer(32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0)
    model = tiny()
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert_close(model.encode(model.embed(images)), reference.forward_features(images), atol=1e-5, rtol=0)
    _, maps = reference.forward_intermediates(images, indices=[0, 2], norm=True)
    for found, wanted in zip(model.feature_maps(images, [0, 2]), maps, strict=True):
        assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ARCHS)
def test_every_arch_has_the_names_and_shapes_of_timm(name: str):
    patch_size = 14 if name == 'huge' else 16
    with torch.device('meta'):
        ours = ViT(name, patch_size=patch_size).state_dict()
        theirs = timm.create_model(f'vit_{name}_patch{patch_size}_224', num_classes=0,
                                   weight_init='skip').state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


def test_last_map_equals_public_vitdet(golden_vitdet: dict[str, Tensor]):
    # detectron2 makes the tables of a global block for the grid of the image size, here (4, 4).
    model = ViT(dict(width=32, depth=3, heads=2), image_size=64, pretrain_image_size=224, window_size=3,
                global_blocks=[2], **DETECTION)
    prefix = 'model.net.'
    model.load_state_dict({key.removeprefix(prefix): value for key, value in golden_vitdet.items()
                           if key.startswith(prefix)})
    assert_close(model.feature_maps(golden_vitdet['images'])[0], golden_vitdet['last_feat'], atol=1e-5, rtol=0)


def test_weights_start_as_in_the_public_mae():
    model = ViT(dict(width=128, depth=1, heads=2), image_size=32, patch_size=8)
    for weight in (model.patch_embed.proj.weight.flatten(1), model.blocks[0].attn.qkv.weight,
                   model.blocks[0].mlp.fc2.weight):
        bound = (6 / sum(weight.shape)) ** 0.5  # Xavier: uniform up to here
        assert 0.98 * bound < weight.abs().max() <= bound
    assert 0.01 < model.cls_token.std() < 0.03
    biases = {name: value for name, value in model.named_parameters() if name.endswith('bias')}
    assert biases.pop('patch_embed.proj.bias').any()  # keeps PyTorch's initialization
    assert not any(value.any() for value in biases.values())
    assert all((part.weight == 1).all() for part in model.modules() if isinstance(part, nn.LayerNorm))


# ---- patches and positions

@pytest.mark.parametrize(('patch_size', 'in_channels', 'size'),
                         [(8, 3, (32, 32)), (4, 1, (12, 20)), (14, 4, (42, 28)), (5, 2, (5, 15))])
def test_visible_tokens_equal_all_patches(patch_size: int, in_channels: int, size: tuple):
    model = tiny(image_size=2 * patch_size, patch_size=patch_size, in_channels=in_channels)
    images = torch.randn(2, in_channels, *size)
    tokens, patches = model.embed(images), patchify(images, patch_size)
    mask = random_mask(patches, 0.5)
    grid = size[0] // patch_size, size[1] // patch_size
    assert_close(model.embed_visible(patches, mask, grid), mask.take_visible(tokens), atol=1e-5, rtol=0)
    assert model.feature_maps(images)[0].shape == (2, 48, *grid)


@pytest.mark.parametrize('grid', [(7, 5), (2, 3), (8, 8)])
def test_positions_of_another_grid_are_interpolated_bicubically(grid: tuple[int, int]):
    model = tiny()
    stored = model.pos_embed[:, 1:].reshape(1, 4, 4, 48).permute(0, 3, 1, 2)
    wanted = F.interpolate(stored, size=grid, mode='bicubic', align_corners=False).flatten(2).transpose(1, 2)
    assert_close(model.positions(grid)[:, 1:], wanted, atol=1e-6, rtol=0)
    assert torch.equal(model.positions(grid)[:, 0], model.pos_embed[:, 0])
    assert model.positions((4, 4)) is model.pos_embed


def test_positions_are_stored_for_pretraining_size():
    model = tiny(image_size=(32, 64), pretrain_image_size=(16, 24), **DETECTION)
    assert model.pos_embed.shape == (1, 1 + 2 * 3, 48)
    assert model.blocks[0].attn.rel_pos_h.shape == (2 * 4 - 1, 16)
    assert model.blocks[0].attn.rel_pos_w.shape == (2 * 8 - 1, 16)


def test_fixed_positions_are_left_out_of_training():
    assert not tiny(fixed_positions=True).pos_embed.requires_grad
    assert tiny().pos_embed.requires_grad


# ---- windows

@pytest.mark.parametrize('global_blocks', [[], [1]])
def test_pixel_stays_in_its_window_without_global_blocks(global_blocks: list[int]):
    model = tiny(window_size=2, global_blocks=global_blocks, **DETECTION).eval()
    images = torch.randn(1, 3, 32, 48)
    before = model.feature_maps(images)[0]
    images[..., :16, :16] += 1  # the first window of 2x2 patches
    moved = (model.feature_maps(images)[0] != before).any(dim=1)[0]
    assert moved[:2, :2].all()
    assert moved.all() == bool(global_blocks)
    assert global_blocks or moved.sum() == 4


def test_images_of_a_batch_are_independent():
    model = tiny(window_size=3, global_blocks=[1], **DETECTION)
    images = torch.randn(2, 3, 40, 56)
    together = model.feature_maps(images)[0]
    assert_close(together, torch.cat([model.feature_maps(image[None])[0] for image in images]), atol=1e-5, rtol=0)


# ---- training

def test_drop_path_drops_the_residual_of_whole_images():
    block = Block(12, heads=2, drop_path=0.5)
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)  # attention alone is left
    tokens = torch.randn(32, 5, 12)
    residual = block.eval()(tokens) - tokens
    dropped = block.train()(tokens) - tokens
    kept = dropped.flatten(1).any(dim=1)
    assert 4 < kept.sum() < 28
    assert_close(dropped[kept], 2 * residual[kept], atol=1e-5, rtol=1e-5)


def test_drop_path_grows_linearly_from_zero():
    rates = [block.drop_path.drop_prob for block in tiny(drop_path_rate=0.3).blocks]
    assert rates == pytest.approx([0, 0.15, 0.3])


@pytest.mark.parametrize('options', [dict(), DETECTION, dict(window_size=3, global_blocks=[2], **DETECTION)])
def test_checkpointing_changes_memory_and_not_the_gradients(options: dict):
    images, gradients, runs = torch.randn(4, 3, 32, 32), [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny(drop_path_rate=0.5, checkpointing=checkpointing, **options)
        calls = []
        model.blocks[1].attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        loss = model.feature_maps(images)[0].square().mean()
        loss.backward()
        gradients.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
        runs.append(len(calls))
    assert runs == [1, 2]
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_bfloat16_under_autocast_is_close():
    model = tiny(window_size=3, global_blocks=[2], **DETECTION)
    images = torch.randn(2, 3, 32, 32)
    exact = model.feature_maps(images)[0]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = model.feature_maps(images)[0]
    assert F.mse_loss(rough.float(), exact) < 1e-3 * exact.var()


# ---- ways for information to leave a window

def test_every_second_windowed_block_is_shifted_by_half():
    model = ViT(dict(width=16, depth=6, heads=2), image_size=64, patch_size=8, window_size=5, global_blocks=[3],
                shifted_windows=True, class_token=False)
    assert [block.shift for block in model.blocks] == [0, 2, 0, 0, 0, 2]


@pytest.mark.parametrize(('options', 'reached'), [
    (dict(), 4), (dict(shifted_windows=True), 16), (dict(conv_blocks=[1]), 16), (dict(global_blocks=[1]), 64)])
def test_reach_of_a_patch(options: dict, reached: int):
    model = ViT(dict(width=16, depth=2, heads=2), image_size=64, patch_size=8, window_size=2, class_token=False,
                final_norm=False, **options)
    for name, parameter in model.named_parameters():
        if name.endswith('norm3.weight'):  # convolutions start as the identity
            nn.init.ones_(parameter)
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    (model.feature_maps(images)[0][0, :, 3, 4] * torch.randn(16)).sum().backward()
    seen = images.grad.abs().sum(1)[0].unfold(0, 8, 8).unfold(1, 8, 8).sum((-1, -2)) > 0
    assert seen.sum() == reached


def test_residual_convolution_equals_detectron2():
    block = Block(8, heads=2, convolve=True)
    names = [name for name, _ in block.named_parameters() if name.startswith('residual')]
    assert names == ['residual.conv1.weight', 'residual.norm1.weight', 'residual.norm1.bias',
                     'residual.conv2.weight', 'residual.norm2.weight', 'residual.norm2.bias',
                     'residual.conv3.weight', 'residual.norm3.weight', 'residual.norm3.bias']
    tokens, residual = torch.randn(2, 15, 8), block.residual
    assert torch.equal(residual(tokens, (3, 5)), tokens)  # its last norm starts at zero
    for norm in (residual.norm1, residual.norm2, residual.norm3):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = tokens.permute(0, 2, 1).reshape(2, 8, 3, 5)

    def normed(x: Tensor, norm: nn.Module) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
        return (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]

    y = F.gelu(normed(F.conv2d(x, residual.conv1.weight), residual.norm1))
    y = F.gelu(normed(F.conv2d(y, residual.conv2.weight, padding=1), residual.norm2))
    y = normed(F.conv2d(y, residual.conv3.weight), residual.norm3)
    assert_close(residual(tokens, (3, 5)), (x + y).flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


# ---- mistakes

@pytest.mark.parametrize(('shape', 'says'), [
    ((1, 3, 30, 32), 'image is 30x32.*patch_size=8.*data_preprocessor.pad_size_divisor=8'),
    ((1, 1, 32, 32), r'images are \(1, 1, 32, 32\), expected \(B, 3, H, W\): set in_channels'),
    ((3, 32, 32), r'images are \(3, 32, 32\), expected \(B, 3, H, W\)'),
])
def test_invalid_images_are_refused(shape: tuple, says: str):
    for method in (tiny().embed, tiny().feature_maps):
        with pytest.raises(ValueError, match=says):
            method(torch.zeros(shape))


@pytest.mark.parametrize(('options', 'says'), [
    (dict(arch='giant'), "arch='giant': expected one of tiny, small, base, large, huge, or dict"),
    (dict(arch=dict(width=8, depth=1)), 'expected one of tiny'),
    (dict(arch=TINY, window_size=2), 'set class_token=False'),
    (dict(arch=TINY, relative_positions=True), 'set class_token=False'),
    (dict(arch=TINY, global_blocks=[3]), r'global_blocks=\(3,\), the 3 blocks are numbered from 0'),
    (dict(arch=TINY, conv_blocks=[3], class_token=False), r'conv_blocks=\(3,\), the 3 blocks are numbered from 0'),
    (dict(arch=TINY, conv_blocks=[1]), 'set class_token=False'),
    (dict(arch=TINY, shifted_windows=True, class_token=False), 'shifted_windows=True with window_size=0'),
    (dict(arch=TINY, image_size=30), 'image is 30x30.*patch_size=8'),
    (dict(arch=dict(width=50, depth=1, heads=5)), 'width=50.*multiple of 4'),
    (dict(arch=dict(width=48, depth=1, heads=5)), 'width=48 cannot be split over heads=5'),
])
def test_invalid_models_are_refused(options: dict, says: str):
    with pytest.raises(ValueError, match=says):
        ViT(**dict(image_size=32, patch_size=8) | options)


def test_an_arch_is_a_name_or_three_numbers():
    assert find_arch('base') == find_arch(dict(width=768, depth=12, heads=12)) == Arch(768, 12, 12)


@pytest.mark.parametrize('options', [dict(drop_path_rate=1.0), dict(drop_path_rate=10), dict(drop_path_rate=-0.1),
                                     dict(window_size=-2, class_token=False)])
def test_rates_and_windows_out_of_range_are_refused_before_they_give_nan(options: dict):
    with pytest.raises(ValueError, match=r'expected a rate in \[0, 1\), and a window of 0'):
        ViT(dict(width=32, depth=2, heads=2), image_size=32, patch_size=8, **options)
