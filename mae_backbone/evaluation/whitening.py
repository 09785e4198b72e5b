"""Whitening: features whose directions all have about the same variance."""
from typing import NamedTuple

import torch
from torch import Tensor

# Our choice. Fraction of the mean variance that is added to each direction. Without it, directions of noise would have
# the same weight as the others.
SHRINKAGE = 0.1


class Whitening(NamedTuple):
    """An affine map of features.

    Attributes:
        mean: (D,) of the features that it was computed from.
        matrix: (D, D).
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, features: Tensor, *, shrinkage: float = SHRINKAGE, chunk: int = 65_536) -> 'Whitening':
        """Computes the map from features (N, D), which may be float16 and memory-mapped.

        Along an eigenvector of the covariance with eigenvalue v the result has the variance v / (v + shrinkage * mean
        of all eigenvalues).
        """
        D = features.shape[1]
        total, products = torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64)
        first = features[0].double()  # near the mean: without it the difference below would lose digits
        for rows in features.split(chunk):
            rows = rows.double() - first
            total += rows.sum(dim=0)
            products += rows.T @ rows
        shift = total / len(features)
        variances, directions = torch.linalg.eigh(products / len(features) - shift.outer(shift))
        variances = variances.clamp(min=0)
        scale = (variances + shrinkage * variances.mean()).clamp(min=torch.finfo(torch.float32).tiny).rsqrt()
        return cls((first + shift).float(), (directions * scale).float())

    def __call__(self, features: Tensor, *, chunk: int = 65_536) -> Tensor:
        """Maps features (N, D). The result has their type."""
        return torch.cat([((rows.float() - self.mean) @ self.matrix).to(rows.dtype) for rows in features.split(chunk)])
