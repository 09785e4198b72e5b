"""Whitened features have variance 1 in every direction, whatever the affine map before."""
import pytest
import torch
from torch.testing import assert_close

from mae_backbone.evaluation.whitening import Whitening


def features(count: int = 500, width: int = 6) -> torch.Tensor:
    """Correlated features of very different variances, far from zero."""
    generator = torch.Generator().manual_seed(0)
    mixture = torch.randn(width, width, generator=generator) * torch.logspace(0, -2, width)
    return torch.randn(count, width, generator=generator) @ mixture + 50


def test_covariance_becomes_the_identity():
    x = features()
    white = Whitening.of(x, shrinkage=0)(x)
    assert_close(white.mean(dim=0), torch.zeros(6), atol=1e-3, rtol=0)
    assert_close(white.T @ white / len(white), torch.eye(6), atol=2e-3, rtol=0)


def test_shrinkage_leaves_the_variance_that_is_stated():
    x = features()
    white = Whitening.of(x, shrinkage=0.1)(x)
    v = torch.linalg.eigvalsh((x - x.mean(dim=0)).double().T @ (x - x.mean(dim=0)).double() / len(x))
    expected = (v / (v + 0.1 * v.mean())).float()
    assert_close(white.var(dim=0, correction=0), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_chunks_change_nothing_and_the_type_stays(dtype: torch.dtype):
    x = features().to(dtype)
    whole, chunked = Whitening.of(x), Whitening.of(x, chunk=7)
    assert_close(chunked.mean, whole.mean)
    assert_close((chunked.matrix @ chunked.matrix.T), whole.matrix @ whole.matrix.T, atol=1e-2, rtol=1e-3)
    assert whole(x).dtype == dtype
    assert_close(whole(x, chunk=7), whole(x))


def test_features_without_variance_stay_finite():
    assert Whitening.of(torch.ones(5, 3))(torch.ones(5, 3)).eq(0).all()
