"""Relative positions of BEiT equal a formula by entry and mmseg's attention, at any image size."""
from itertools import product
from pathlib import Path

import pytest
import torch
from mmseg.models.backbones.beit import BEiTAttention
from mmseg.models.backbones.mae import MAE
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.core import relative_bias
from mae_backbone.core.attention import Attention
from mae_backbone.core.relative_bias import bias_of, bias_table, resized
from mae_backbone.core.vit import ViT
from mae_backbone.engine.layer_decay import layer_id
from mae_backbone.models.backbone import ViTBackbone

ARCH = dict(width=24, depth=3, heads=2)

of_mmseg = pytest.mark.filterwarnings('ignore:torch.meshgrid')


def table_for(grid: tuple[int, int], heads: int = 2) -> Tensor:
    return torch.randn_like(bias_table(grid, heads))


def by_hand(table: Tensor, grid: tuple[int, int], class_token: bool) -> Tensor:
    """The bias entry by entry, from the definition: one number for each distance, and three for the class token."""
    h, w = grid
    places = [None] * class_token + list(product(range(h), range(w)))
    bias = torch.zeros(table.shape[1], len(places), len(places))
    for (i, query), (j, key) in product(enumerate(places), repeat=2):
        if query is None or key is None:
            entry = {(True, False): -3, (False, True): -2, (True, True): -1}[query is None, key is None]
        else:
            entry = (query[0] - key[0] + h - 1) * (2 * w - 1) + query[1] - key[1] + w - 1
        bias[:, i, j] = table[entry]
    return bias


@pytest.mark.parametrize('class_token', [False, True])
@pytest.mark.parametrize('grid', [(3, 4), (1, 5), (2, 2), (1, 1)])
def test_bias_is_table_entry_of_distance(grid: tuple[int, int], class_token: bool):
    table = table_for(grid)
    assert torch.equal(bias_of(table, grid, grid, class_token=class_token), by_hand(table, grid, class_token))


@pytest.mark.parametrize(('grid', 'class_token'), [((3, 4), False), ((3, 4), True), ((5, 3), True)])
def test_attention_equals_formula(grid: tuple[int, int], class_token: bool):
    """softmax(q k^T / sqrt(d) + bias) v, the table stretched where the grid is another one, and its gradient."""
    attention = Attention(24, heads=2, bias_size=(3, 4))
    torch.nn.init.normal_(attention.relative_position_bias_table)
    tokens = torch.randn(2, grid[0] * grid[1] + class_token, 24)
    q, k, v = attention.qkv(tokens).unflatten(2, (3, 2, 12)).permute(2, 0, 3, 1, 4)
    table = attention.relative_position_bias_table
    bias = by_hand(resized(table, (3, 4), grid), grid, class_token)
    mixed = (q @ k.mT / 12**0.5 + bias).softmax(-1) @ v
    wanted, found = attention.proj(mixed.transpose(1, 2).flatten(2)), attention(tokens, grid)
    assert_close(found, wanted, atol=1e-5, rtol=0)
    for loss in (found, wanted):
        loss.square().sum().backward(inputs=[table])
    found_gradient = torch.autograd.grad(attention(tokens, grid).square().sum(), table)[0]
    assert_close(2 * found_gradient, table.grad, atol=1e-4, rtol=1e-4)


@of_mmseg
def test_attention_equals_mmseg():
    theirs = BEiTAttention(24, 2, (3, 4), bias=True)
    theirs.init_weights()
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    ours = Attention(24, heads=2, bias_size=(3, 4))
    left = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert left.missing_keys == []
    assert left.unexpected_keys == ['relative_position_index']
    tokens = torch.randn(2, 13, 24)
    assert_close(ours(tokens, (3, 4)), theirs(tokens), atol=1e-5, rtol=0)


@of_mmseg
def test_vit_equals_mmseg_mae():
    """All of mmseg's backbone with the same weights, its layer scale at 1; the image has the size it is built for."""
    theirs = MAE(img_size=48, embed_dims=24, num_layers=3, num_heads=2, init_values=1.0, out_indices=[0, 2],
                 norm_cfg=dict(type='LN', eps=1e-6))
    theirs.eval()
    for parameter in theirs.parameters():
        if parameter.ndim != 1:  # layer scale, biases and norms stay as they start
            torch.nn.init.normal_(parameter, std=0.3)
    ours = ViTBackbone(ARCH, image_size=48, class_token=True, relative_bias='block', out_indices=[0, 2]).eval()
    renamed = {'ffn.layers.0.0.': 'mlp.fc1.', 'ffn.layers.1.': 'mlp.fc2.', 'layers.': 'blocks.', '.ln1.': '.norm1.',
               '.ln2.': '.norm2.', 'patch_embed.projection.': 'patch_embed.proj.'}
    weights = {}
    for name, value in theirs.state_dict().items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        weights[name] = value
    left = ours.load_state_dict(weights, strict=False)
    assert left.missing_keys == []
    assert {name.split('.')[-1] for name in left.unexpected_keys} == {'gamma_1', 'gamma_2', 'relative_position_index'}
    images = torch.randn(2, 3, 48, 48)
    for found, wanted in zip(ours(images), theirs(images), strict=True):
        assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('new', [(2, 2), (4, 4), (7, 3)])
def test_tables_are_resized_as_timm_does(new: tuple[int, int]):
    table = table_for((3, 3))
    shape = ((2 * new[0] - 1) * (2 * new[1] - 1) + 3, 2)
    assert_close(resized(table, (3, 3), new), resize_rel_pos_bias_table_simple(table, new, shape), atol=1e-6, rtol=0)


def test_resized_tables_keep_symmetry():
    """A table that is the same to both sides stays so on another grid, and so does one that is even."""
    table = table_for((4, 3))
    table[:-3] += table[:-3].flip(0)
    assert_close(resized(table, (4, 3), (6, 5))[:-3], resized(table, (4, 3), (6, 5))[:-3].flip(0), atol=1e-5, rtol=0)
    assert_close(resized(torch.ones_like(table), (4, 3), (2, 7)), torch.ones(3 * 13 + 3, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize('kind', ['block', 'shared'])
@pytest.mark.parametrize('class_token', [False, True])
@pytest.mark.parametrize('size', [(64, 64), (48, 80)])
def test_maps_at_any_size_with_and_without_checkpointing(kind: str, class_token: bool, size: tuple[int, int]):
    """The bias takes part at every size, and recomputing the blocks changes neither outcome nor gradients."""
    torch.manual_seed(0)
    images, gradients = torch.randn(1, 3, *size), []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        model = ViTBackbone(ARCH, image_size=64, class_token=class_token, relative_bias=kind,
                            checkpointing=checkpointing).train()
        tables = [p for name, p in model.named_parameters() if name.endswith('.relative_position_bias_table')]
        assert len(tables) == (3 if kind == 'block' else 1)
        plain = model(images)[0]
        for table in tables:
            torch.nn.init.normal_(table)
        found = model(images)[0]
        assert found.shape == (1, 24, size[0] // 16, size[1] // 16)
        assert (found - plain).abs().max() > 1e-3
        found.square().sum().backward()
        assert all(table.grad.abs().sum() > 0 for table in tables)
        gradients.append([table.grad for table in tables])
    assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_shared_table_equals_same_table_in_each_block():
    shared = ViTBackbone(ARCH, image_size=64, relative_bias='shared').eval()
    each = ViTBackbone(ARCH, image_size=64, relative_bias='block').eval()
    table = torch.nn.init.normal_(shared.rel_pos_bias.relative_position_bias_table)
    weights = {name: value for name, value in shared.state_dict().items() if 'rel_pos_bias' not in name}
    each.load_state_dict(weights | {f'blocks.{i}.attn.relative_position_bias_table': table for i in range(3)})
    images = torch.randn(1, 3, 32, 48)
    assert_close(each(images)[0], shared(images)[0], atol=1e-5, rtol=0)


def test_windows_have_tables_of_their_own_size():
    model = ViTBackbone(ARCH, image_size=64, window_size=2, global_blocks=(2,), relative_bias='block').eval()
    assert [block.attn.bias_size for block in model.blocks] == [(2, 2), (2, 2), (4, 4)]
    assert model(torch.randn(1, 3, 48, 80))[0].shape == (1, 24, 3, 5)


def test_bfloat16_under_autocast_is_close():
    model = ViTBackbone(ARCH, image_size=64, class_token=True, relative_bias='block').eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.attn.relative_position_bias_table)
    images = torch.randn(1, 3, 64, 64)
    exact = model(images)[0]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = model(images)[0]
    assert (rough.float() - exact).square().mean() < 1e-3 * exact.var()


@pytest.mark.parametrize('options', [
    dict(relative_bias='all'), dict(relative_bias='block', relative_positions=True),
    dict(relative_bias='shared', window_size=2)])
def test_invalid_combinations_are_refused(options: dict):
    with pytest.raises(ValueError, match='relative_bias='):
        ViT(ARCH, image_size=64, class_token=False, **options)


def test_masked_pretraining_refuses_relative_bias():
    model = ViT(ARCH, image_size=64, relative_bias='block')
    with pytest.raises(ValueError, match='for feature maps'):
        model.encode(model.embed(torch.randn(1, 3, 64, 64)))


def test_weights_come_from_pretraining_and_from_other_grids(tmp_path: Path):
    pretrained = ViT(ARCH, image_size=32)
    torch.save(pretrained.state_dict(), tmp_path / 'mae.pth')
    model = ViTBackbone(ARCH, image_size=64, pretrain_image_size=32, relative_bias='block')
    load_encoder(model, tmp_path / 'mae.pth')
    assert all(not block.attn.relative_position_bias_table.any() for block in model.blocks)
    table = torch.nn.init.normal_(model.blocks[1].attn.relative_position_bias_table)
    index = {'blocks.0.attn.relative_position_index': torch.zeros(17, 17, dtype=torch.long)}  # as public files have it
    torch.save(model.state_dict() | index, tmp_path / 'fine.pth')
    larger = ViTBackbone(ARCH, image_size=(96, 64), pretrain_image_size=32, relative_bias='block')
    load_encoder(larger, tmp_path / 'fine.pth')
    assert_close(larger.blocks[1].attn.relative_position_bias_table.data, resized(table, (4, 4), (6, 4)).data)


def test_tables_of_unknown_grids_are_refused(tmp_path: Path):
    torch.save(ViTBackbone(ARCH, image_size=(64, 32), pretrain_image_size=32, relative_bias='shared').state_dict(),
               tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match=r'rel_pos_bias\.relative_position_bias_table'):
        load_encoder(ViTBackbone(ARCH, image_size=64, pretrain_image_size=32, relative_bias='shared'),
                     tmp_path / 'x.pth')


def test_layer_ids_of_tables():
    """In a block that of the block; shared after all of them, as in BEiT's code."""
    assert layer_id('blocks.1.attn.relative_position_bias_table', depth=3, prefix='') == 2
    assert layer_id('rel_pos_bias.relative_position_bias_table', depth=3, prefix='') == 4


@pytest.mark.parametrize('class_token', [False, True])
@pytest.mark.parametrize('grid', [(3, 4), (5, 2), (1, 6)])
def test_bias_of_an_exported_graph_is_the_same(monkeypatch: pytest.MonkeyPatch, grid: tuple[int, int],
                                               class_token: bool):
    table = torch.randn_like(bias_table((3, 4), 2))
    expected = bias_of(table, (3, 4), grid, class_token=class_token)
    monkeypatch.setattr(relative_bias, 'is_exporting', lambda: True)
    assert torch.equal(bias_of(table, (3, 4), grid, class_token=class_token), expected)
