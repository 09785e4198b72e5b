"""Which patches the encoder may see."""
import math
from collections.abc import Callable
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

    def part(self, count: int) -> 'Mask':
        """With the first `count` hidden patches in `drop`, a random part of them: only those can be predicted by it."""
        return self._replace(drop=self.drop[:, :count])

    def unshuffle(self, visible: Tensor, concealed: Tensor) -> Tensor:
        """(B, K, D) and (B, L - K, D) -> (B, L, D) in the order of the image: the inverse of the two above."""
        return _take(torch.cat([visible, concealed], dim=1), self.restore)


# What a class of masks does: noise (B, L), independent and uniform in [0, 1), and the grid (h, w) of the L = h * w
# patches -> Mask. One that is named in a config also takes `ratio`, the share to hide, and keeps it as an attribute.
Masking = Callable[[Tensor, tuple[int, int]], Mask]


class RandomMasking:
    """Hides any patches with the same probability, drawn for each image (paper section 3, the default).

    Args:
        ratio: share of the patches that is hidden, in (0, 1).
    """

    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = ratio

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """noise (B, L) -> the patches with the lowest noise stay visible."""
        return mask_from_noise(noise, self.ratio)


class BlockMasking:
    """Hides rectangles, as BEiT does (paper section 4.1 and figure 6; BEiT, Bao et al., ICLR 2022, algorithm 1).

    Rectangles of random area, shape and place are put on the image until the ratio is reached. BEiT stops near it; here
    the last rectangle is cut, row by row from its top or bottom, so that all images have the same number of visible
    patches and are one tensor.

    Args:
        ratio: share of the patches that is hidden, in (0, 1).
        smallest: area of the smallest rectangle as a share of the image (BEiT: 16 of 196 patches).
        aspect: the flattest height / width, in (0, 1]; its inverse is the steepest.
    """

    def __init__(self, ratio: float = 0.75, *, smallest: float = 16 / 196, aspect: float = 0.3) -> None:
        if not (0 < smallest <= 1 and 0 < aspect <= 1):
            raise ValueError(f'smallest={smallest} and aspect={aspect} must be in (0, 1], BEiT: 16 / 196 and 0.3')
        self.ratio, self.smallest, self.aspect = ratio, smallest, aspect

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """noise (B, L) -> a mask of blocks. The noise is the seed of the blocks."""
        h, w = grid
        K = visible_count(h * w, self.ratio)
        # Two numbers of 24 bits name the image well enough; there may be fewer than L others.
        seeds = (noise[:, 0] * 2**24).long() * 2**24 + (noise[:, 1] * 2**24).long()
        draws = noise_from_seeds(seeds, 5 * _BLOCKS).unflatten(1, (5, _BLOCKS))
        hidden = _first(_order_of_blocks(self.rectangles(draws, grid), draws[:, 4, :1], grid), h * w - K)
        return mask_from_hidden(hidden, noise, K)

    def rectangles(self, draws: Tensor, grid: tuple[int, int]) -> Tensor:
        """draws (B, 5, R) in [0, 1) -> (B, R, 4) of top, left, bottom, right in patches, all within the grid."""
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
    """Hides in a regular pattern: at .75 one of every 2x2 patches is visible (paper section 4.1 and figure 6).

    Other ratios follow the order of a Bayer matrix: every ratio shows the patches of the higher ones, and shares of
    1/2, 1/4, 1/16 and so on are regular. The pattern is shifted at random in each image: no place is always hidden.

    Args:
        ratio: share of the patches that is hidden, in (0, 1).
    """

    def __init__(self, ratio: float = 0.75) -> None:
        self.ratio = ratio

    def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
        """noise (B, L) -> a mask of a grid, which its first two numbers shift."""
        h, w = grid
        K, bits = visible_count(h * w, self.ratio), (max(h, w) - 1).bit_length()
        shift = (noise[:, :2] * 2**bits).long()
        rows = torch.arange(h, device=noise.device) + shift[:, :1]
        columns = torch.arange(w, device=noise.device) + shift[:, 1:]
        order = bayer(rows[:, :, None], columns[:, None, :], bits).flatten(1)
        return mask_from_hidden(~_first(order, K), noise, K)


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
    K = visible_count(noise.shape[1], ratio)
    shuffle = noise.argsort(dim=1, stable=True)  # stable: numbers that are equal are in one order on every device
    restore = shuffle.argsort(dim=1)
    return Mask(keep=shuffle[:, :K], drop=shuffle[:, K:], restore=restore, hidden=restore >= K)


def mask_from_hidden(hidden: Tensor, noise: Tensor, visible: int) -> Mask:
    """hidden (B, L) bool, False at `visible` patches of each image -> their Mask, both sides in the order of noise."""
    shuffle = (noise + hidden).argsort(dim=1, stable=True)  # noise is below 1
    return Mask(keep=shuffle[:, :visible], drop=shuffle[:, visible:], restore=shuffle.argsort(dim=1), hidden=hidden)


def visible_count(patches: int, ratio: float) -> int:
    """K of L patches, int(L * (1 - ratio)). Raises ValueError where the ratio leaves none visible or none hidden."""
    visible = int(patches * (1 - ratio))
    if not 0 < visible < patches:
        raise ValueError(f'mask_ratio={ratio} leaves {visible} of {patches} patches visible, at least 1 must be '
                         'visible and 1 hidden: choose a ratio between 0 and 1 (paper: 0.75), larger images or smaller '
                         'patches')
    return visible


def noise_from_seeds(seeds: Tensor, length: int) -> Tensor:
    """seeds (B,) int64 -> (B, length) float32 in [0, 1), independent and uniform, a pure function of each seed.

    The number at place i is a hash of seed and i (SplitMix64, Steele et al., OOPSLA 2014) in whole numbers that wrap
    around: the same on every device, and for any split of the images over batches and processes.
    """
    place = torch.arange(1, length + 1, device=seeds.device)
    bits = _scramble(_scramble(seeds)[:, None] + place * _signed(0x9E3779B97F4A7C15))
    return _shift(bits, 40).float() * 2.0**-24


def bayer(rows: Tensor, columns: Tensor, bits: int) -> Tensor:
    """Rows and columns -> place of each patch in the order of a Bayer matrix of 2**bits a side, which it repeats.

    The first quarter of the order has one patch of every 2x2, the first sixteenth one of every 4x4, and so on.
    """
    order = torch.zeros_like(rows + columns)
    for i in range(bits):
        y, x = rows >> i & 1, columns >> i & 1
        order = order * 4 + (y ^ x) * 2 + y
    return order


_BLOCKS = 60  # rectangles that are drawn for an image; they are bits of a number of 63


def _order_of_blocks(rectangles: Tensor, upwards: Tensor, grid: tuple[int, int]) -> Tensor:
    """rectangles (B, R, 4), upwards (B, 1) in [0, 1) -> (B, L): the lower a number, the sooner a patch is hidden.

    The whole part is the first rectangle that covers the patch. The rest goes down its rows in half of the images, and
    up in the others. With bits for rectangles nothing of size (B, R, L) is made.
    """
    h, w = grid
    top, left, bottom, right = (edge[:, None, :] for edge in rectangles.unbind(-1))       # (B, 1, R)
    bit = 2 ** torch.arange(rectangles.shape[1], device=rectangles.device)
    row, column = (torch.arange(n, device=rectangles.device)[:, None] for n in grid)      # (h, 1), (w, 1)
    rows = (((top <= row) & (row < bottom)) * bit).sum(-1)                                # (B, h)
    columns = (((left <= column) & (column < right)) * bit).sum(-1)                       # (B, w)
    covering = (rows[:, :, None] & columns[:, None, :]).flatten(1)                        # (B, L)
    covering = covering | 2**62  # patches that no rectangle covers are the last
    place = torch.arange(h * w, device=rectangles.device) / (h * w)
    return (covering & -covering).float().log2().round() + torch.where(upwards < 0.5, place, place.flip(0))


def _first(order: Tensor, count: int) -> Tensor:
    """order (B, L) -> (B, L) bool, True at the `count` lowest numbers."""
    return order.argsort(dim=1, stable=True).argsort(dim=1) < count


def _scramble(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64: every bit of the outcome depends on every one that comes in."""
    bits = (bits ^ _shift(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shift(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ _shift(bits, 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shifts int64 to the right as if it had no sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _signed(bits: int) -> int:
    """64 bits as the number that int64 takes them for."""
    return bits - (1 << 64) if bits >> 63 else bits


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens (B or 1, N, D), index (B, M) -> (B, M, D)."""
    tokens = tokens.expand(len(index), -1, -1)
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
