"""Sizes of images and boxes after the resizing of a pipeline."""
from collections.abc import Sequence

import numpy as np


def resized(sizes: np.ndarray, images: np.ndarray, pipeline: Sequence[dict]) -> np.ndarray | None:
    """Returns the sizes of boxes or images after a pipeline.

    Random factors (`ratio_range`) are taken as 1. Crops and flips do not change sizes.

    Args:
        sizes: (N, 2) height and width of the boxes or images in pixels.
        images: (N, 2) height and width of the image of each box.
        pipeline: transforms of mmdet or mmseg.

    Returns:
        (N, 2) height and width in pixels. None if the pipeline resizes in a way that is not supported.
    """
    result, current = sizes.astype(float), images.astype(float)
    for step in pipeline:
        name = str(step.get('type')).split('.')[-1]
        if name in ('Resize', 'RandomResize'):
            factors = _factors(step, current)
        elif name == 'RandomChoiceResize' and step.get('scales'):
            scales = sorted(step['scales'], key=lambda scale: scale[0] * scale[1])
            factors = _factors(dict(scale=scales[len(scales) // 2], keep_ratio=True), current)
        elif 'transforms' in step or 'Mosaic' in name or 'Affine' in name:
            return None
        else:
            continue
        if factors is None:
            return None
        result, current = result * factors, current * factors
    return result


def _factors(step: dict, images: np.ndarray) -> np.ndarray | None:
    """Factors (N, 1) or (N, 2) by which a step resizes images (N, 2)."""
    if step.get('scale_factor') is not None:
        factor = step['scale_factor']
        return np.full((len(images), 1), factor if isinstance(factor, (int, float)) else factor[0], float)
    scale = step.get('scale')
    if isinstance(scale, int):
        scale = (scale, scale)
    if not isinstance(scale, (list, tuple)) or len(scale) != 2 or not all(isinstance(side, int) for side in scale):
        return None
    if not step.get('keep_ratio', True):
        return np.array([scale[1], scale[0]], float) / images  # scale is (width, height)
    # As in mmcv.imrescale: the long side is at most max(scale), and the short side at most min(scale).
    longest = max(scale) / images.max(axis=1)
    shortest = min(scale) / images.min(axis=1)
    return np.minimum(longest, shortest)[:, None]
