"""Relative positions without an N x N matrix equal detectron2's; plain attention equals timm's."""
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention as TimmAttention
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.core import attention
from mae_backbone.core.attention import MIN_KEYS_IN_BFLOAT16, Attention, attend_with_relative_positions, fused_attention
from mae_backbone.core.windows import Windows

# Grids and sizes of the tables: as they were made, larger (the table is stretched), smaller, not square, one line.
GRIDS = [((3, 4), (3, 4)), ((5, 6), (3, 4)), ((2, 2), (4, 3)), ((4, 2), (3, 3)), ((1, 5), (2, 5))]


def explicit(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, grid: tuple[int, int]) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v with the bias (B, heads, N, N) summed up entry by entry."""
    h, w = grid
    table_h, table_w = stretch(table_h, 2 * h - 1), stretch(table_w, 2 * w - 1)
    places = [(y, x) for y in range(h) for x in range(w)]
    bias = torch.stack([torch.stack([q[:, :, i] @ table_h[yi - yj + h - 1] + q[:, :, i] @ table_w[xi - xj + w - 1]
                                     for yj, xj in places], dim=-1) for i, (yi, xi) in enumerate(places)], dim=-2)
    return (q @ k.mT / q.shape[-1]**0.5 + bias).softmax(-1) @ v


@pytest.fixture(params=['in parts', 'folded'])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to add the bias, of which a CPU would take the first alone."""
    monkeypatch.setattr(attention, 'takes_chunks', lambda q: request.param == 'in parts')


def stretch(table: Tensor, size: int) -> Tensor:
    """Linear interpolation between the centers of the entries, the ends held."""
    weights = torch.zeros(size, len(table), dtype=table.dtype)
    for i in range(size):
        place = min(max((i + 0.5) * len(table) / size - 0.5, 0), len(table) - 1)
        low = min(int(place), len(table) - 2)
        weights[i, low], weights[i, low + 1] = 1 - (place - low), place - low
    return weights @ table


def tensors(grid: tuple[int, int], table_size: tuple[int, int], *, d: int = 4, dtype: torch.dtype = torch.float64
            ) -> list[Tensor]:
    """q, k, v, table_h, table_w that want gradients."""
    N = grid[0] * grid[1]
    shapes = [(2, 2, N, d)] * 3 + [(2 * size - 1, d) for size in table_size]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.usefixtures('_way')
@pytest.mark.parametrize('recompute', [True, False])
@pytest.mark.parametrize(('grid', 'table_size'), GRIDS)
def test_attention_equals_explicit_form_forward_and_backward(grid: tuple, table_size: tuple, recompute: bool):
    inputs = tensors(grid, table_size)
    found = attend_with_relative_positions(*inputs, grid, recompute=recompute)
    wanted = explicit(*inputs, grid)
    assert_close(found, wanted, atol=1e-10, rtol=0)
    weights = torch.randn_like(found)
    for a, b in zip(torch.autograd.grad((found * weights).sum(), inputs),
                    torch.autograd.grad((wanted * weights).sum(), inputs), strict=True):
        assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.usefixtures('_way')
def test_gradients_equal_finite_differences():
    inputs = tensors((2, 1), (1, 2), d=2)
    assert torch.autograd.gradcheck(lambda *x: attend_with_relative_positions(*x, (2, 1)), inputs)


@pytest.mark.usefixtures('_way')
def test_float32_equals_explicit_form():
    inputs = tensors((6, 5), (4, 4), d=16, dtype=torch.float32)
    assert_close(attend_with_relative_positions(*inputs, (6, 5)), explicit(*inputs, (6, 5)), atol=1e-5, rtol=0)


@pytest.mark.parametrize('heads', [1, 4])
def test_without_tables_equals_timm(heads: int):
    ours, timm = Attention(16, heads=heads), TimmAttention(16, num_heads=heads, qkv_bias=True)
    ours.load_state_dict(timm.state_dict())
    tokens = torch.randn(2, 7, 16)
    assert_close(ours(tokens), timm(tokens), atol=1e-6, rtol=0)


def test_zero_tables_have_no_effect_and_get_gradients():
    plain, relative = Attention(16, heads=2), Attention(16, heads=2, table_size=(3, 4))
    assert relative.load_state_dict(plain.state_dict(), strict=False).missing_keys == ['rel_pos_h', 'rel_pos_w']
    tokens = torch.randn(2, 12, 16)
    assert_close(relative(tokens, (3, 4)), plain(tokens), atol=1e-6, rtol=0)
    relative(tokens, (3, 4)).square().mean().backward()
    assert relative.rel_pos_h.grad.abs().max() > 0
    assert relative.rel_pos_w.grad.abs().max() > 0


@pytest.mark.usefixtures('_way')
def test_bfloat16_under_autocast_is_close():
    layer = Attention(32, heads=2, table_size=(3, 3))
    torch.nn.init.normal_(layer.rel_pos_h)
    torch.nn.init.normal_(layer.rel_pos_w)
    tokens, found = torch.randn(2, 20, 32, requires_grad=True), []
    for enabled in (False, True):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            out = layer(tokens, (4, 5))
        layer.zero_grad()
        out.float().square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in layer.parameters())])
    assert found[1][0].dtype == torch.bfloat16
    for exact, rough in zip(*found, strict=True):
        assert F.mse_loss(rough.float(), exact) < 1e-3 * exact.square().mean()


@pytest.mark.parametrize(('keys', 'in_float32'), [(16, True), (MIN_KEYS_IN_BFLOAT16, False)])
def test_short_sequences_in_bfloat16_are_trained_in_float32_on_a_cpu(keys: int, in_float32: bool):
    """Results are those of float32, rounded once at the end, also under autocast, and with a bias."""
    q, k, v = (torch.randn(1, 2, keys, 8).bfloat16().requires_grad_() for _ in range(3))
    bias = torch.randn(1, 2, keys, keys)
    for given in (None, bias):
        exact = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), given).bfloat16()
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = fused_attention(q, k, v, given)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, exact) == in_float32
        torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)


def test_heads_not_dividing_width_are_refused():
    with pytest.raises(ValueError, match='width=10 cannot be split over heads=4'):
        Attention(10, heads=4)


@pytest.mark.usefixtures('_way')
@pytest.mark.parametrize('recompute', [True, False])
@pytest.mark.parametrize('shift', [0, 1])
@pytest.mark.parametrize('positions', [{}, dict(table_size=(3, 3)), dict(bias_size=(3, 3))],
                         ids=['none', 'decomposed', 'table'])
def test_windows_are_padded_with_zeros_before_projection(positions: dict, shift: int, recompute: bool):
    """As detectron2 does, which multiplies the filling too."""
    layer = Attention(8, heads=2, recompute=recompute, **positions).double()
    for parameter in layer.parameters():  # of which the tables start as zeros
        nn.init.normal_(parameter)
    norm, windows = nn.LayerNorm(8).double(), Windows((4, 5), 3, shift)
    tokens = torch.randn(2, 20, 8, dtype=torch.double, requires_grad=True)
    found = layer(tokens, before=norm, windows=windows)
    wanted = windows.join(layer(windows.split(norm(tokens)), (3, 3)))
    assert_close(found, wanted)
    to = [tokens, *norm.parameters(), *layer.parameters()]
    weights = torch.randn_like(found)
    for a, b in zip(torch.autograd.grad((found * weights).sum(), to),
                    torch.autograd.grad((wanted * weights).sum(), to), strict=True):
        assert_close(a, b)


# ---- widths of fused kernels

@pytest.mark.parametrize(('head_dim', 'places', 'widths'), [
    (64, 28, (96, 96)), (64, 128, (192, 128)), (80, 28, (112, 112)), (80, 128, (208, 208)), (64, 96, (192, 128)),
    (8, 5, (16, 16)), (160, 28, (192, 192))])
def test_widths_of_folded_heads_are_those_of_fused_kernels(head_dim: int, places: int, widths: tuple[int, int]):
    assert attention.folded_widths(head_dim, places) == widths


@pytest.mark.parametrize(('d', 'grid', 'widths'), [(6, (3, 4), (16, 16)), (64, (30, 40), (192, 128))])
def test_padded_heads_equal_unpadded_ones(monkeypatch: pytest.MonkeyPatch, d: int, grid: tuple[int, int],
                                          widths: tuple[int, int]):
    """In float64, results and gradients; the kernel gets the padded tensors."""
    inputs = tensors(grid, grid, d=d)
    seen, kernel = [], F.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, *bias: Tensor | None, **options: float) -> Tensor:
        seen.append((q.shape[-1], k.shape[-1], v.shape[-1]))
        return kernel(q, k, v, *bias, **options)
    monkeypatch.setattr(F, 'scaled_dot_product_attention', spy)
    monkeypatch.setattr(attention, 'takes_chunks', lambda q: False)
    out = attend_with_relative_positions(*inputs, grid)
    assert seen == [(widths[0], widths[0], widths[1])]
    monkeypatch.setattr(attention, 'folded_widths', lambda head_dim, places: (head_dim + places, head_dim + places))
    expected = attend_with_relative_positions(*inputs, grid)
    assert_close(out, expected, atol=1e-10, rtol=0)
    weights = torch.randn_like(expected)
    for a, b in zip(torch.autograd.grad((out * weights).sum(), inputs),
                    torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        assert_close(a, b, atol=1e-10 * float(b.abs().max().clamp(min=1)), rtol=0)


def test_rows_of_a_bias_are_aligned_and_their_numbers_kept():
    bias = torch.randn(2, 197, 197)
    assert torch.equal(attention.aligned(bias), bias)
    assert all(stride % 16 == 0 for stride in attention.aligned(bias).stride()[:-1])
    assert attention.aligned(torch.randn(2, 64, 64)).is_contiguous()


@pytest.mark.parametrize('options', [dict(table_size=(3, 4)), dict(table_size=(5, 2)), dict(bias_size=(3, 4))])
def test_attention_of_an_exported_graph_is_the_same(monkeypatch: pytest.MonkeyPatch, options: dict):
    layer, tokens = Attention(8, heads=2, **options).double(), torch.randn(2, 12, 8, dtype=torch.double)
    for name, parameter in layer.named_parameters():
        if name.startswith('rel'):
            nn.init.normal_(parameter)
    with torch.no_grad():
        expected = layer(tokens, (3, 4))
        monkeypatch.setattr(attention, 'is_exporting', lambda: True)
        assert_close(layer(tokens, (3, 4)), expected, atol=1e-12, rtol=0)
