"""Crops and resizes pixels with PIL's antialiased filters."""
import numpy as np
import torch
import torch.nn.functional as F

INTERPOLATIONS = ('bicubic', 'bilinear')


def resize(pixels: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int], *,
           interpolation: str = 'bicubic', out: np.ndarray | None = None) -> np.ndarray:
    """pixels (any height, any width, C), box (top, left, height, width) -> crop resized to `size`: (H, W, C).

    With antialiasing this is PIL's filter, which the paper uses, to within 2 of 255. OpenCV's bicubic filter does not
    antialias, and its area filter blurs at scales just below 1.

    Args:
        size: (H, W) in pixels.
        interpolation: 'bicubic' or 'bilinear'.
        out: array (H, W, C) for the result; otherwise a new one.
    """
    top, left, height, width = box
    crop = pixels[top:top + height, left:left + width]
    if out is None:
        out = np.empty((*size, pixels.shape[2]), pixels.dtype)
    if (height, width) == tuple(size):
        out[...] = crop
    elif crop.dtype == np.uint8 and out.flags.c_contiguous:
        # F.interpolate calls these kernels but has no `out`.
        filters = {'bicubic': torch.ops.aten._upsample_bicubic2d_aa, 'bilinear': torch.ops.aten._upsample_bilinear2d_aa}
        filters[interpolation].out(_planes(crop), list(size), False, None, None, out=_planes(out))
    else:
        out[...] = _interpolate(crop, (size[0], size[1]), interpolation)
    return out


def _planes(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, C) -> (1, C, H, W), sharing memory.

    unsqueeze comes before permute, so that torch recognizes channels_last by the strides and takes its fast path.
    """
    return torch.from_numpy(np.require(pixels, requirements=['C', 'W'])).unsqueeze(0).permute(0, 3, 1, 2)


def _interpolate(crop: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    planes = F.interpolate(_planes(crop).to(torch.float32), size, mode=interpolation, antialias=True)
    if crop.dtype != np.float32:
        planes = planes.round_().clamp_(0, np.iinfo(crop.dtype).max)  # bicubic overshoots the range
    return planes[0].permute(1, 2, 0).numpy().astype(crop.dtype, copy=False)
