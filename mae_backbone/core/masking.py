"""Masks: selection of visible and hidden patches.

A mask is drawn by one of the classes here from uniform noise, a number for each patch: `RandomMasking` (the default),
`BlockMasking` or `GridMasking`. The noise comes from torch's generator, or from `noise_from_seeds`.
"""
import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Mask(NamedTuple):
    """Split of the L patches of each image into K visible and L - K hidden patches."""

    ids_visible: Tensor  # (B, K) indices of the visible patches, in the order of the tokens of the encoder
    ids_hidden: Tensor   # (B, L - K) indices of the hidden patches
    ids_restore: Tensor  # (B, L) undoes the shuffle: cat([ids_visible, ids_hidden], 1) gathered by it is 0, ..., L - 1
    hidden: Tensor       # (B, L) bool, True at the hidden patches

    def take_visible(self, tokens: Tensor) -> Tensor:
        """tokens (B or 1, L, D) -> tokens (B, K, D) of the visible patches."""
        return _take(tokens, self.ids_visible)

    def take_hidden(self, tokens: Tensor) -> Tensor:
        """tokens (B or 1, L, D) -> tokens (B, L - K, D) of the hidden patches."""
        return _take(tokens, self.ids_hidden)

    def first_hidden(self, count: int) -> 'Mask':
        """Returns a mask with only the first `count` of `ids_hidden`, a random choice of the patches to predict."""
        return self._replace(ids_hidden=self.ids_hidden[:, :count])

    def unshuffle(self, visible: Tensor, hidden: Tensor) -> Tensor:
        """(B, K, D) and (B, L - K, D) -> (B, L, D) in image order: the inverse of the two `take` methods."""
        return _take(torch.cat([visible, hidden], dim=1), self.ids_restore)


class Masking(Protocol):
    """Interface of masks: noise (B, L), independent and uniform in [0, 1), and the grid (h, w) of patches -> Mask.

    A class for configs must accept `ratio`, the fraction of the patches to hide, and have it as an attribute, which may
    change during training.
    """

    ratio: float

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """Draws the masks of B images."""


class RandomMasking:
    """Hides patches uniformly at random, drawn for each image (MAE paper, section 3; the default).

    Args:
        ratio: fraction of the patches that is hidden, in (0, 1).
    """

    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = ratio

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """noise (B, L) -> masks in which the patches with the lowest noise are visible."""
        return mask_from_noise(noise, self.ratio)


class BlockMasking:
    """Hides rectangles, as BEiT does (MAE paper, section 4.1 and figure 6; BEiT, Bao et al., ICLR 2022, algorithm 1).

    Rectangles of random area, aspect and position are placed on the image until the ratio is reached. BEiT stops near
    the ratio. Here the last rectangle is cut, row by row from its top or bottom, so that all images of a batch have the
    same number of visible patches.

    Args:
        ratio: fraction of the patches that are hidden, in (0, 1).
        smallest: area of the smallest rectangle as a fraction of the image (BEiT: 16 of 196 patches).
        aspect: smallest height / width, in (0, 1]; the largest is its inverse.

    Raises:
        ValueError: `smallest` or `aspect` is out of range.
    """

    def __init__(self, ratio: float = 0.75, *, smallest: float = 16 / 196, aspect: float = 0.3) -> None:
        if not (0 < smallest <= 1 and 0 < aspect <= 1):
            raise ValueError(f'smallest={smallest} and aspect={aspect} must be in (0, 1], BEiT: 16 / 196 and 0.3')
        self.ratio, self.smallest, self.aspect = ratio, smallest, aspect

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """noise (B, L) -> masks of rectangles. The first two noises of an image are the seed of its rectangles."""
        h, w = grid
        K = visible_count(h * w, self.ratio)
        # More random numbers may be needed than there are patches, so the noise is only used as a seed. 48 bits are
        # enough to give each image a different seed.
        seeds = (noise[:, 0] * 2**24).long() * 2**24 + (noise[:, 1] * 2**24).long()
        draws = noise_from_seeds(seeds, 5 * _BLOCKS).unflatten(1, (5, _BLOCKS))
        hidden = _first(_order_of_blocks(self.rectangles(draws, grid), draws[:, 4, :1], grid), h * w - K)
        return mask_from_hidden(hidden, noise, K)

    def rectangles(self, draws: Tensor, grid: tuple[int, int]) -> Tensor:
        """draws (B, 5, R) in [0, 1) -> rectangles (B, R, 4): top, left, bottom, right in patches, within the grid."""
        h, w = grid
        area, aspect, top, left, _ = draws.unbind(1)
        low, high = self.smallest * h * w, max(self.ratio, self.smallest) * h * w
        area = low + (high - low) * area
        aspect = torch.exp((2 * aspect - 1) * math.log(self.aspect))
        height = (area * aspect).sqrt().round().clamp(1, h)
        width = (area / aspect).sqrt().round().clamp(1, w)
        top, left = (top * (h - height + 1)).floor(), (left * (w - width + 1)).floor()
        return torch.stack([top, left, top + height, left + width], dim=-1).long()


class GridMasking:
    """Hides patches in a regular pattern: at 0.75, one of 2x2 patches is visible (MAE paper, section 4.1, figure 6).

    Other ratios follow the order of a Bayer matrix. All patches that are visible at a ratio are also visible at smaller
    ratios. For visible fractions of 1/2, 1/4, 1/16 and so on, the pattern is regular. The pattern is shifted randomly
    in each image, so that no position is always hidden.

    Args:
        ratio: fraction of the patches that is hidden, in (0, 1).
    """

    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = ratio

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """noise (B, L) -> masks of a regular pattern, shifted by the first two noises of each image."""
        h, w = grid
        K, bits = visible_count(h * w, self.ratio), (max(h, w) - 1).bit_length()
        shift = (noise[:, :2] * 2**bits).long()
        rows = torch.arange(h, device=noise.device) + shift[:, :1]
        columns = torch.arange(w, device=noise.device) + shift[:, 1:]
        order = bayer(rows[:, :, None], columns[:, None, :], bits).flatten(1)
        return mask_from_hidden(~_first(order, K), noise, K)


def random_mask(tokens: Tensor, ratio: float, *, generator: torch.Generator | None = None) -> Mask:
    """Draws a mask for each image of tokens (B, L, D), with the fraction `ratio` of patches hidden."""
    B, L = tokens.shape[:2]
    noise = torch.rand(B, L, device=tokens.device, generator=generator)
    return mask_from_noise(noise, ratio)


def mask_from_noise(noise: Tensor, ratio: float) -> Mask:
    """noise (B, L) -> masks in which the int(L * (1 - ratio)) patches with the lowest noise are visible.

    Raises:
        ValueError: the ratio leaves no patch visible, or none hidden.
    """
    K = visible_count(noise.shape[1], ratio)
    shuffle = noise.argsort(dim=1, stable=True)  # stable: equal noises have the same order on every device
    ids_restore = shuffle.argsort(dim=1)
    return Mask(shuffle[:, :K], shuffle[:, K:], ids_restore, hidden=ids_restore >= K)


def mask_from_hidden(hidden: Tensor, noise: Tensor, visible: int) -> Mask:
    """hidden (B, L) bool, False at `visible` patches of each image -> Mask.

    Visible and hidden patches are each in the order of the noise (B, L), so that the first ones are a random choice.
    """
    shuffle = (noise + hidden).argsort(dim=1, stable=True)  # noise is below 1: visible patches come first
    return Mask(shuffle[:, :visible], shuffle[:, visible:], shuffle.argsort(dim=1), hidden)


def visible_count(patches: int, ratio: float) -> int:
    """K = int(L * (1 - ratio)) of L patches. Raises ValueError if none would be visible, or none hidden."""
    visible = int(patches * (1 - ratio))
    if not 0 < visible < patches:
        raise ValueError(f'mask_ratio={ratio} leaves {visible} of {patches} patches visible, at least 1 must be '
                         'visible and 1 hidden: choose a ratio between 0 and 1 (paper: 0.75), larger images or smaller '
                         'patches')
    return visible


def noise_from_seeds(seeds: Tensor, length: int) -> Tensor:
    """seeds (B,) int64 -> (B, length) float32 in [0, 1), independent and uniform, a pure function of each seed.

    Number i is a hash of the seed and i (SplitMix64, Steele et al., OOPSLA 2014), computed in integers that wrap
    around. It is the same on every device, and does not depend on how images are split over batches and processes.
    """
    place = torch.arange(1, length + 1, device=seeds.device)
    bits = _scramble(_scramble(seeds)[:, None] + place * _signed(0x9E3779B97F4A7C15))
    return _shift(bits, 40).float() * 2.0**-24


def bayer(rows: Tensor, columns: Tensor, bits: int) -> Tensor:
    """Rows and columns -> rank of each patch in a Bayer matrix with sides of 2**bits, which repeats over the grid.

    The first quarter of the ranks has one patch of every 2x2, the first sixteenth one of every 4x4, and so on.
    """
    order = torch.zeros_like(rows + columns)
    for i in range(bits):
        y, x = rows >> i & 1, columns >> i & 1
        order = order * 4 + (y ^ x) * 2 + y
    return order


# Number of rectangles that are drawn for an image, many more than are needed for any ratio. Each is a bit of an int64.
_BLOCKS = 60


def _order_of_blocks(rectangles: Tensor, upwards: Tensor, grid: tuple[int, int]) -> Tensor:
    """rectangles (B, R, 4), upwards (B, 1) in [0, 1) -> (B, L): patches with lower numbers are hidden first.

    The integer part is the first rectangle that covers the patch. The fraction grows with the row in half of the
    images, and falls with it in the others. Rectangles are bits of an integer, which avoids a tensor (B, R, L).
    """
    h, w = grid
    top, left, bottom, right = (edge[:, None, :] for edge in rectangles.unbind(-1))       # (B, 1, R)
    bit = 2 ** torch.arange(rectangles.shape[1], device=rectangles.device)
    row, column = (torch.arange(n, device=rectangles.device)[:, None] for n in grid)      # (h, 1), (w, 1)
    rows = (((top <= row) & (row < bottom)) * bit).sum(-1)                                # (B, h)
    columns = (((left <= column) & (column < right)) * bit).sum(-1)                       # (B, w)
    covering = (rows[:, :, None] & columns[:, None, :]).flatten(1)                        # (B, L)
    covering = covering | 2**62  # patches that no rectangle covers come last
    place = torch.arange(h * w, device=rectangles.device) / (h * w)
    # x & -x is the lowest bit of x.
    return (covering & -covering).float().log2().round() + torch.where(upwards < 0.5, place, place.flip(0))


def _first(order: Tensor, count: int) -> Tensor:
    """order (B, L) -> (B, L) bool, True at the `count` lowest numbers."""
    return order.argsort(dim=1, stable=True).argsort(dim=1) < count


def _scramble(bits: Tensor) -> Tensor:
    """Finalizer of SplitMix64 for int64. Each bit of the result depends on all bits of the argument."""
    bits = (bits ^ _shift(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shift(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shifts int64 to the right without extending the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(bits: int) -> int:
    """Returns the int64 with the same 64 bits."""
    return bits - (1 << 64) if bits >> 63 else bits


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens (B or 1, N, D), index (B, M) -> (B, M, D)."""
    tokens = tokens.expand(len(index), -1, -1)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
