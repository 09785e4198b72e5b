"""Converts images to patches and patches to images, and computes sin-cos position embeddings."""
import torch
from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """images (B, C, H, W) -> patches (B, L, P), row by row; the pixels of a patch are ordered (y, x, channel).

    The public MAE code has the same order, so that `decoder_pred` of its checkpoints fits.

    Raises:
        ValueError: a side of the image is not a multiple of the patch size.
    """
    B, C, H, W = images.shape
    h, w = grid_size((H, W), patch_size)
    patches = images.reshape(B, C, h, patch_size, w, patch_size)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(B, h * w, patch_size * patch_size * C)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """patches (B, L, P) on a grid of (h, w) patches -> images (B, C, H, W): the inverse of `patchify`."""
    B, L, P = patches.shape
    h, w = grid
    if L != h * w or P % patch_size**2:
        raise ValueError(f'patches are (B, {L}, {P}), a grid of {h}x{w} needs (B, {h * w}, {patch_size**2} * C): '
                         'pass the grid and the patch_size that patchify was given')
    pixels = patches.reshape(B, h, w, patch_size, patch_size, -1)
    return pixels.permute(0, 5, 1, 3, 2, 4).reshape(B, -1, h * patch_size, w * patch_size)


def grid_size(image_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """(H, W) in pixels -> (h, w) in patches. Raises ValueError if a side is not a multiple of the patch size."""
    H, W = image_size
    if H < patch_size or W < patch_size or H % patch_size or W % patch_size:
        raise ValueError(f'image is {H}x{W}, both sides must be multiples of patch_size={patch_size}: '
                         f'set data_preprocessor.pad_size_divisor={patch_size}, or crop or resize the images')
    return H // patch_size, W // patch_size


# Public MAE code: (x - mean) / sqrt(var + 1e-6) with the unbiased variance of the patch (paper section 4.1).
_EPS = 1e-6


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """patches (..., P) -> mean and standard deviation (..., 1) of each patch, as the MAE loss uses them."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True, unbiased=True)
    return mean, (variance + _EPS).sqrt()


def image_statistics(patches: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """patches (B, L, P) -> mean and standard deviation (B, 1, P) of each channel over the whole image."""
    pixels = patches.unflatten(2, (-1, channels)).flatten(1, 2)             # (B, L * p * p, C)
    variance, mean = torch.var_mean(pixels, dim=1, keepdim=True, unbiased=True)
    repeats = patches.shape[2] // channels
    return mean.repeat(1, 1, repeats), (variance + _EPS).sqrt().repeat(1, 1, repeats)


def sincos_positions(grid: tuple[int, int], width: int, *, class_token: bool = False) -> Tensor:
    """Fixed sin-cos position embeddings (1, L, D) of patches, or (1, 1 + L, D) with a zero row for the class token.

    The first half of D encodes the column x, the second half the row y, each by sines and then cosines of geometric
    frequencies to base 10,000 (public MAE code, `util/pos_embed.py`: the w axis comes first).

    Raises:
        ValueError: the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f'width={width}: sin-cos positions need a multiple of 4, half of it for each axis')
    h, w = grid
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float64), torch.arange(w, dtype=torch.float64), indexing='ij')
    table = torch.cat([_sincos(x.flatten(), width // 2), _sincos(y.flatten(), width // 2)], dim=1)
    if class_token:
        table = torch.cat([table.new_zeros(1, width), table])
    return table.float()[None]


def _sincos(position: Tensor, width: int) -> Tensor:
    """position (L,) -> (L, width)."""
    frequency = 10_000 ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
