"""Grids for which absolute position embeddings are stored in files, and their interpolation to another grid."""
from timm.layers import resample_abs_pos_embed
from torch import Tensor

Grid = tuple[int, int]


def stored_grid(number: int, image_size: Grid | None, patch_size: int | None) -> Grid | None:
    """Returns the grid (h, w) in patches for which positions are stored.

    It is the grid of the image size that the file states, or a square grid. The number of positions is not sufficient:
    256 positions may be stored for 16x16 or 8x32 patches.

    Args:
        number: number of positions of patches, h * w.
        image_size: image size (H, W) in pixels that the file states; None if it does not.
        patch_size: height and width of a patch in the file; None if it is unknown.

    Returns:
        The grid; None if the file does not state it, and `number` is not a square number.
    """
    if image_size and patch_size:
        grid = image_size[0] // patch_size, image_size[1] // patch_size
        if grid[0] * grid[1] == number > 0:
            return grid
    side = round(max(0, number) ** 0.5)
    return (side, side) if side and side * side == number else None


def resize_positions(positions: Tensor, source: Grid, target: Grid, *, prefix: int = 1,
                     antialias: bool = False) -> Tensor:
    """Interpolates positions bicubically: (1, prefix + h*w, D) for a grid `source` -> `target`.

    Args:
        positions: positions of `prefix` other tokens, such as the class token, and of the patches.
        source, target: grids (h, w) in patches.
        prefix: number of other tokens.
        antialias: as in `torch.nn.functional.interpolate`.
    """
    return resample_abs_pos_embed(positions, list(target), list(source), num_prefix_tokens=prefix,
                                  interpolation='bicubic', antialias=antialias)
