"""Recomputed inputs give the same numbers, and are not stored for the backward pass."""
from collections.abc import Callable

import pytest
import torch
from helpers.saved_tensors import held
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from mae_backbone.core.recompute import recompute_inputs, recompute_linear_input
from mae_backbone.core.vit import Block, ViT


def gradients(work: Callable[[], Tensor], *wanted: Tensor) -> list[Tensor]:
    """What `work` returns, and the gradients of the sum of its squares."""
    out = work()
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), wanted)]




def pair(width: int = 16, **options) -> tuple[Block, Block]:
    """Two blocks alike, of which the first makes again what it can; tables of relative positions are random."""
    blocks = Block(width, heads=2, recompute=True, **options), Block(width, heads=2, recompute=False, **options)
    for name, parameter in blocks[0].named_parameters():
        if 'rel_pos' in name:
            nn.init.normal_(parameter)
    blocks[1].load_state_dict(blocks[0].state_dict())
    return blocks


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('cheap', [nn.GELU(), nn.LayerNorm(16)])
def test_result_and_gradients_equal_plain_layers_bit_for_bit(cheap: nn.Module, dtype: torch.dtype):
    linear, x = nn.Linear(16, 8), torch.randn(2, 5, 16, requires_grad=True)
    wanted = x, *linear.parameters(), *cheap.parameters()
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        plain = gradients(lambda: linear(cheap(x)), *wanted)
        ours = gradients(lambda: recompute_linear_input(linear, cheap, x), *wanted)
    assert plain[0].dtype == dtype
    for a, b in zip(ours, plain, strict=True):
        assert torch.equal(a, b)


def test_inputs_are_freed_after_forward_pass():
    linear, x = nn.Linear(512, 1), torch.randn(100, 512, requires_grad=True)
    assert held(lambda: linear(nn.functional.gelu(x))) >= 4 * 100 * 512
    assert held(lambda: recompute_linear_input(linear, nn.functional.gelu, x)) < 4 * 200


def test_an_input_that_is_expanded_inside_is_recomputed():
    """As a bias (1, heads, N, N) by PyTorch's fused kernels on a GPU."""
    x, weights = torch.randn(4, 2, 5, requires_grad=True), torch.randn(2, 5, requires_grad=True)
    found = gradients(lambda: recompute_inputs(lambda bias: x * bias.expand(4, 2, 5), weights.sigmoid), x, weights)
    for one, wanted in zip(found, gradients(lambda: x * weights.sigmoid(), x, weights), strict=True):
        assert_close(one, wanted)


def test_each_input_is_recomputed_once():
    a, b, calls = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True), []
    makers = [lambda: calls.append('a') or a.exp(), lambda: calls.append('b') or b.sin()]
    found = gradients(lambda: recompute_inputs(torch.mul, *makers), a, b)
    assert calls == ['a', 'b', 'a', 'b'] or calls == ['a', 'b', 'b', 'a']
    for one, wanted in zip(found, gradients(lambda: a.exp() * b.sin(), a, b), strict=True):
        assert torch.equal(one, wanted)


def test_block_stores_six_widths_per_token_less():
    """The outcomes of both norms, and that of GELU, which is four times as wide."""
    (ours, plain), tokens = pair(64), torch.randn(4, 50, 64, requires_grad=True)
    spared = held(lambda: plain(tokens)) - held(lambda: ours(tokens))
    assert spared == pytest.approx(4 * 6 * 4 * 50 * 64, rel=0.01)


def test_block_gives_same_result_without_repeated_matrix_products():
    (ours, plain), tokens = pair(), torch.randn(3, 7, 16, requires_grad=True)
    found, flops = [], []
    for block in (ours, plain):
        with FlopCounterMode(display=False) as counter:
            out = block(tokens)
            out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in block.parameters())])
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1] > 0
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_checkpointing_stores_only_tokens_between_blocks():
    options = dict(arch=dict(width=32, depth=8, heads=2), image_size=32, patch_size=8)
    images = torch.randn(16, 3, 32, 32)
    plain, checkpointed = (ViT(**options, checkpointing=checkpointing) for checkpointing in (False, True))
    tokens = [model.embed(images) for model in (plain, checkpointed)]
    assert held(lambda: checkpointed.encode(tokens[1])) < 0.2 * held(lambda: plain.encode(tokens[0]))


@pytest.mark.slow
@pytest.mark.parametrize('options', [dict(), dict(table_size=(3, 4)), dict(table_size=(2, 2), window_size=2)])
def test_block_compiles_without_graph_breaks(options: dict):
    (ours, plain), tokens = pair(**options), torch.randn(3, 12, 16, requires_grad=True)
    compiled = torch.compile(ours, backend='aot_eager', fullgraph=True)
    for a, b in zip(gradients(lambda: compiled(tokens, (3, 4)), tokens, *ours.parameters()),
                    gradients(lambda: plain(tokens, (3, 4)), tokens, *plain.parameters()), strict=True):
        assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_nothing_is_stored_without_gradients():
    linear, x = nn.Linear(16, 8), torch.randn(2, 16)
    with torch.no_grad():
        assert torch.equal(recompute_linear_input(linear, torch.tanh, x), linear(x.tanh()))


def test_blocks_run_on_meta_device():
    with torch.device('meta'):
        block, tokens = Block(16, heads=2), torch.randn(2, 5, 16, requires_grad=True)
    block(tokens).sum().backward()
    assert tokens.grad.shape == tokens.shape
