"""Which patches the encoder may see."""
from typing import NamedTuple

import torch
from torch import Tensor


class Mask(NamedTuple):
    """A split of the L patches of each image into K visible and L - K hidden ones."""

    keep: Tensor     # (B, K) indices of the visible patches, in the order in which the encoder sees them
    drop: Tensor     # (B, L - K) indices of the hidden patches
    restore: Tensor  # (B, L) undoes the shuffle: cat([keep, drop], 1) gathered by it is 0, 1, ..., L - 1
    hidden: Tensor   # (B, L) bool, True where the encoder sees nothing

    def visible(self, tokens: Tensor) -> Tensor:
        """tokens (B or 1, L, D) -> those of the visible patches (B, K, D)."""
        return _take(tokens, self.keep)

    def concealed(self, tokens: Tensor) -> Tensor:
        """tokens (B or 1, L, D) -> those of the hidden patches (B, L - K, D)."""
        return _take(tokens, self.drop)

    def unshuffle(self, visible: Tensor, concealed: Tensor) -> Tensor:
        """(B, K, D) and (B, L - K, D) -> (B, L, D) in the order of the image: the inverse of the two above."""
        return _take(torch.cat([visible, concealed], dim=1), self.restore)


def random_mask(tokens: Tensor, ratio: float, *, generator: torch.Generator | None = None) -> Mask:
    """Hides the share `ratio` of the patches of tokens (B, L, D), drawn anew for each image (paper section 3)."""
    B, L = tokens.shape[:2]
    noise = torch.rand(B, L, device=tokens.device, generator=generator)
    return mask_from_noise(noise, ratio)


def mask_from_noise(noise: Tensor, ratio: float) -> Mask:
    """noise (B, L) -> the patches with the lowest noise stay visible, int(L * (1 - ratio)) of each image.

    Raises:
        ValueError: the ratio leaves no patch visible or none hidden.
    """
    L = noise.shape[1]
    K = int(L * (1 - ratio))
    if not 0 < K < L:
        raise ValueError(f'mask_ratio={ratio} leaves {K} of {L} patches visible, at least 1 must be visible and 1 '
                         'hidden: choose a ratio between 0 and 1 (paper: 0.75), larger images or smaller patches')
    shuffle = noise.argsort(dim=1)
    restore = shuffle.argsort(dim=1)
    return Mask(keep=shuffle[:, :K], drop=shuffle[:, K:], restore=restore, hidden=restore >= K)


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens (B or 1, N, D), index (B, M) -> (B, M, D)."""
    tokens = tokens.expand(len(index), -1, -1)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
