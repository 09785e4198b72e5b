"""Crops of pixels at another size, with PIL's filters."""
import numpy as np
import torch
import torch.nn.functional as F

INTERPOLATIONS = ('bicubic', 'bilinear')


def resize(pixels: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int], *,
           interpolation: str = 'bicubic', out: np.ndarray | None = None) -> np.ndarray:
    """The part of pixels (any height, any width, C) in `box` (top, left, height, width) -> (H, W, C), `size` = (H, W).

    With antialias this is PIL's filter, the paper's, to within 2 of 255. OpenCV's bicubic does not antialias where it
    shrinks, and its area filter blurs where it hardly does.
    """
    top, left, height, width = box
    crop = pixels[top:top + height, left:left + width]
    if (height, width) != tuple(size):
        crop = _interpolate(crop, tuple(size), interpolation)
    elif out is None:
        return crop.copy()
    if out is None:
        return np.ascontiguousarray(crop)
    out[...] = crop
    return out


def _interpolate(crop: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    # Packed first: torch's fast way for bytes takes dense pixels, and is twice as slow when it has to pack them. In a
    # batch before it is permuted: by its stride torch sees that channels are last, and answers alike, which spares a
    # slow copy from planes.
    planes = torch.from_numpy(np.require(crop, requirements=['C', 'W'])).unsqueeze(0).permute(0, 3, 1, 2)
    if crop.dtype == np.uint8:
        planes = F.interpolate(planes, size, mode=interpolation, antialias=True)
    else:
        planes = F.interpolate(planes.to(torch.float32), size, mode=interpolation, antialias=True)
        planes = planes.round_().clamp_(0, np.iinfo(crop.dtype).max)  # bicubic swings beyond the range
    return planes[0].permute(1, 2, 0).numpy().astype(crop.dtype, copy=False)
