"""Chunked attention equals the formula for any chunks, with memory linear in the number of tokens."""
import pytest
import torch
from helpers.saved_tensors import held
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.core import chunked_attention as module
from mae_backbone.core.attention import Attention
from mae_backbone.core.chunked_attention import chunked_attention


def inputs(B: int, heads: int, h: int, w: int, d: int, *, table: bool, dtype: torch.dtype = torch.float64
           ) -> dict[str, Tensor]:
    """q, k, v and a bias of one of the two kinds."""
    N = h * w
    shapes = dict.fromkeys('qkv', (B, heads, N, d)) | (
        dict(table=(heads, N, N)) if table else dict(rows=(B, heads, N, h), columns=(B, heads, N, w)))
    return {name: torch.randn(shape, dtype=dtype).requires_grad_() for name, shape in shapes.items()}


def formula(q: Tensor, k: Tensor, v: Tensor, rows: Tensor | None = None, columns: Tensor | None = None,
            table: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, all of it at once."""
    bias = table if rows is None else (rows[..., :, None] + columns[..., None, :]).flatten(-2)
    return (q @ k.mT / q.shape[-1]**0.5 + bias).softmax(-1) @ v


@pytest.mark.parametrize('scores', [1, 12 * 5, 12 * 12 * 2, 12 * 12 * 3 * 2, 10**6])
@pytest.mark.parametrize('table', [False, True])
def test_equals_formula_forward_and_backward_for_any_chunks(table: bool, scores: int, monkeypatch: pytest.MonkeyPatch):
    """Single queries, some queries of a head, some heads of an image, some images, all; with a rest that is smaller."""
    monkeypatch.setattr(module, 'CHUNK_SCORES', scores)
    monkeypatch.setattr(module, 'MIN_QUERIES', 1)
    given = inputs(5, 3, 3, 4, 6, table=table)
    found, wanted = chunked_attention(**given), formula(**given)
    assert_close(found, wanted, atol=1e-12, rtol=0)
    weights = torch.randn_like(found)
    for a, b in zip(*(torch.autograd.grad((out * weights).sum(), list(given.values())) for out in (found, wanted)),
                    strict=True):
        assert_close(a, b, atol=1e-11, rtol=0)


@pytest.mark.parametrize('scores', [1, 12 * 5, 10**6])
def test_some_queries_of_all_keys_equal_the_formula(scores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, 'CHUNK_SCORES', scores)
    monkeypatch.setattr(module, 'MIN_QUERIES', 1)
    given = inputs(2, 3, 3, 4, 6, table=False)
    given |= {name: given[name][:, :, 5:].detach().requires_grad_() for name in ('q', 'rows', 'columns')}
    found, wanted = chunked_attention(**given), formula(**given)
    assert_close(found, wanted, atol=1e-12, rtol=0)
    for a, b in zip(*(torch.autograd.grad(out.square().sum(), list(given.values())) for out in (found, wanted)),
                    strict=True):
        assert_close(a, b, atol=1e-11, rtol=0)


@pytest.mark.parametrize('table', [False, True])
def test_float32_is_exact_to_1e_5_and_large_scores_do_not_overflow(table: bool):
    given = inputs(1, 2, 8, 9, 16, table=table, dtype=torch.float32)
    given['q'] = (30 * given['q']).detach().requires_grad_()
    assert_close(chunked_attention(**given), formula(**given), atol=1e-5, rtol=0)
    given = {name: 1e4 * tensor.detach() for name, tensor in given.items()}
    assert torch.isfinite(chunked_attention(**given)).all()


def test_bfloat16_is_rounded_once_at_the_end():
    given = {name: tensor.detach().bfloat16() for name, tensor in
             inputs(2, 2, 5, 5, 8, table=False, dtype=torch.float32).items()}
    wanted = formula(**{name: tensor.float() for name, tensor in given.items()})
    assert_close(chunked_attention(**given), wanted.bfloat16(), atol=0, rtol=2**-7)  # at most the neighbor


def test_stored_memory_is_linear_in_tokens():
    layer, bytes_kept = Attention(16, heads=2, table_size=(8, 8)), []
    for side in (16, 32):
        tokens = torch.randn(1, side**2, 16, requires_grad=True)
        bytes_kept.append(held(lambda side=side, tokens=tokens: layer(tokens, (side, side))))
    assert bytes_kept[1] <= 4 * bytes_kept[0]
    # The outcome, q, k, v, what is mixed of them; two tables of distances, side * side * d; one number for each head.
    assert bytes_kept[0] == pytest.approx(4 * (256 * 16 * 5 + 2 * 16 * 16 * 8 + 256 * 2), rel=0.3)


def test_nonfinite_loss_gives_nonfinite_gradients():
    """So that a step on it is skipped."""
    given = inputs(1, 1, 2, 2, 3, table=False)
    with torch.no_grad():
        given['v'][0, 0, 0, 0] = float('nan')
    chunked_attention(**given).sum().backward()
    assert given['q'].grad.isnan().any()


def test_chunks_are_counted_as_round_does():
    for a in range(1, 200):
        for b in range(1, 40):
            assert module._rounded(a, b) == round(a / b)
