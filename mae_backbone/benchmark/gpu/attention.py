"""Every form of attention of this package against the N x N form in float64: outputs and gradients."""
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.measure import attempt, precision, relative_error
from mae_backbone.benchmark.reference_attention import ReferenceAttention
from mae_backbone.core import attention
from mae_backbone.core.attention import Attention, attend_with_bias
from mae_backbone.core.relative_bias import bias_of, bias_table

# Largest relative error of an output or a gradient: about 5 times the error of a CPU in bfloat16, 100 times in float32.
LIMITS = {'float32': 1e-4, 'bfloat16': 5e-2, 'float16': 1e-2}
WIDTH, HEADS = 128, 2  # heads of 64 numbers, as in ViT-B and ViT-L
Results = dict[str, Tensor]


def forms(settings: Settings) -> Rows:
    """Relative positions, BEiT's bias, and plain attention."""
    yield from relative_positions(settings)
    yield from biases(settings)
    yield from plain(settings)


def precisions(settings: Settings) -> list[str]:
    """The precisions that the device trains in."""
    return ['float32', 'bfloat16'] + ['float16'] * (settings.device == 'cuda')


def exact_widths() -> AbstractContextManager:
    """Disables the padding of heads to a width that fused kernels support, see `folded_widths`."""
    return mock.patch.object(attention, 'folded_widths', new=_exact_widths)


def _exact_widths(head_dim: int, places: int) -> tuple[int, int]:
    return head_dim + places, head_dim + places


def relative_positions(settings: Settings) -> Rows:
    """detectron2's tables on a window, an uneven grid, and the grid of 1,024 pixels."""
    ways: dict[str, AbstractContextManager] = {'folded': nullcontext(), 'folded, exact widths': exact_widths()}
    for grid in ((14, 14), (17, 13), (8, 8) if settings.tiny else (64, 64)):
        torch.manual_seed(0)
        reference = ReferenceAttention(WIDTH, heads=HEADS, table_size=grid)
        for name, parameter in reference.named_parameters():
            if 'rel_pos' in name:  # zero at the start of a training, which would make the check useless
                nn.init.normal_(parameter, std=0.2)
        tokens, gradient = torch.randn(2, 2, grid[0] * grid[1], WIDTH)
        expected = _of_module(reference.double().to(settings.device), tokens.double(), gradient, grid)
        ours = Attention(WIDTH, heads=HEADS, table_size=grid)
        ours.load_state_dict({name: value.float() for name, value in reference.state_dict().items()})
        compute = partial(_of_module, ours.to(settings.device), tokens, gradient, grid)
        if settings.device == 'cpu':
            for dtype in precisions(settings):
                yield f'{grid[0]} x {grid[1]}, chunked, {dtype}', _row(compute, expected, dtype, settings)
        with mock.patch.object(attention, 'takes_chunks', return_value=False):  # as on a GPU
            for way, patched in ways.items():
                for dtype in precisions(settings):
                    with patched:
                        figures = _row(compute, expected, dtype, settings)
                    yield f'{grid[0]} x {grid[1]}, {way}, {dtype}', figures


def _of_module(module: Attention, tokens: Tensor, gradient: Tensor, grid: tuple[int, int]) -> Results:
    """Output and gradients of a module."""
    module.zero_grad()
    device = module.qkv.weight.device
    leaf = tokens.to(device, copy=True).requires_grad_()
    output = module(leaf, grid)
    output.backward(gradient.to(device, output.dtype))
    leaves = {'tokens': leaf, 'qkv': module.qkv.weight, 'rows': module.rel_pos_h, 'columns': module.rel_pos_w}
    return {'output': output} | _gradients(leaves)


def biases(settings: Settings) -> Rows:
    """BEiT's table, as in UPerNet: a class token and a grid."""
    for side in (4, 6) if settings.tiny else (14, 32):
        torch.manual_seed(0)
        inputs = {name: torch.randn(2, HEADS, side**2 + 1, 64, device=settings.device) for name in 'qkv'}
        inputs['table'] = torch.randn_like(bias_table((side, side), HEADS)).to(settings.device)
        compute = partial(_of_bias, inputs, torch.randn_like(inputs['q']), (side, side))
        expected = compute(torch.float64)
        for dtype in precisions(settings):
            yield f'bias, {side} x {side} and class token, {dtype}', _row(
                partial(compute, getattr(torch, dtype)), expected, dtype, settings)


def _of_bias(inputs: dict[str, Tensor], gradient: Tensor, grid: tuple[int, int], dtype: torch.dtype) -> Results:
    """Attention with a bias; the table stays float32, or float64, as under autocast."""
    precise = torch.promote_types(dtype, torch.float32)
    leaves = {name: x.to(precise, copy=True).requires_grad_() for name, x in inputs.items()}
    q, k, v = (leaves[name].to(dtype) for name in 'qkv')
    mixed = attend_with_bias(q, k, v, partial(bias_of, leaves['table'], grid, grid, class_token=True))
    mixed.backward(gradient.to(dtype))
    return {'output': mixed} | _gradients(leaves)


def plain(settings: Settings) -> Rows:
    """The shapes of MAE: all tokens of the encoder, of the decoder, and its last block, which has fewer queries."""
    for name, (queries, keys, width) in {'encoder': (50, 50, 64), 'decoder': (197, 197, 32),
                                         'last block of the decoder': (147, 197, 32)}.items():
        torch.manual_seed(0)
        inputs = {key: torch.randn(4, HEADS, n, width, device=settings.device)
                  for key, n in (('q', queries), ('k', keys), ('v', keys))}
        compute = partial(_of_plain, inputs, torch.randn_like(inputs['q']))
        expected = compute(torch.float64)
        for dtype in precisions(settings):
            yield f'{name}, {dtype}', _row(partial(compute, getattr(torch, dtype)), expected, dtype, settings)


def _of_plain(inputs: dict[str, Tensor], gradient: Tensor, dtype: torch.dtype) -> Results:
    """Attention without positions, written out in float64."""
    leaves = {name: x.to(dtype, copy=True).requires_grad_() for name, x in inputs.items()}
    q, k, v = leaves.values()
    mixed = ((q @ k.mT * q.shape[-1]**-0.5).softmax(-1) @ v if dtype == torch.float64
             else F.scaled_dot_product_attention(q, k, v))
    mixed.backward(gradient.to(dtype))
    return {'output': mixed} | _gradients(leaves)


def _gradients(leaves: Mapping[str, Tensor | None]) -> Results:
    return {f'grad {name}': leaf.grad.clone() for name, leaf in leaves.items()
            if leaf is not None and leaf.grad is not None}


def _row(compute: Callable[[], Results], expected: Results, dtype: str, settings: Settings) -> dict:
    """Relative error of each result, and whether the largest is within the limit."""
    def errors() -> dict[str, float | bool]:
        with precision(dtype, settings.device):
            results = compute()
        values = {name: relative_error(value, expected[name]) for name, value in results.items()}
        within = max(values.values()) <= LIMITS[dtype] and results.keys() == expected.keys()
        return {**values, 'limit': LIMITS[dtype], 'ok': within}
    return attempt(errors)
