"""Compares the anchors of a detector with the boxes of a data set."""
from collections.abc import Iterable
from typing import Any

import numpy as np

# A box fits an anchor if height and width differ by less than this factor (YOLOv5, utils/autoanchor.py, anchor_t).
# YOLOv5 fits new anchors if fewer than 98 % of the boxes fit. We warn below 90 %, because a few percent of the boxes of
# COCO, for which the usual anchors are designed, do not fit either.
MAX_FACTOR = 4.0
MIN_COVERED = 0.9
_SCALES = [round(2.0 ** (step / 2), 1) for step in range(-2, 15)]  # 0.5 to 128 times the stride
_MAX_BOXES = 20_000  # number of evenly spaced boxes that are compared


def anchor_warning(generator: dict, key: str, boxes: np.ndarray) -> str:
    """Returns a warning if the anchors cover too few boxes, with the best settings as options; otherwise ''.

    Args:
        generator: config of mmdet's AnchorGenerator.
        key: key of the generator in the config.
        boxes: (N, 2) height and width of the boxes in the resized images, in pixels.
    """
    strides = [stride if isinstance(stride, (int, float)) else stride[0] for stride in generator.get('strides') or []]
    scales = _scales(generator)
    if not str(generator.get('type')).endswith('AnchorGenerator') or not strides or scales is None or not len(boxes):
        return ''
    ratios = [float(ratio) for ratio in generator.get('ratios') or [1.0]]
    boxes = boxes[np.linspace(0, len(boxes) - 1, min(len(boxes), _MAX_BOXES)).astype(int)]
    covered = coverage(boxes, anchor_sizes(strides, scales, ratios))
    if covered >= MIN_COVERED:
        return ''
    sides = np.sqrt(boxes.prod(axis=1))
    low, high = np.percentile(sides, (5, 95))
    anchors = np.sqrt(anchor_sizes(strides, scales, ratios).prod(axis=1))
    text = (f'the anchors fit {covered:.0%} of the boxes in training (expected at least {MIN_COVERED:.0%}; a box fits '
            f'if its sides are within a factor of {MAX_FACTOR:g} of an anchor): boxes measure {low:.0f} to {high:.0f} '
            f'pixels (5th to 95th percentile), anchors {anchors.min():.0f} to {anchors.max():.0f}. ')
    settings, best = fit_anchors(strides, ratios, boxes)
    if best <= covered + 0.02:
        return text + ('No scale of the anchors fits more: resize the images, so that the objects get the size of the '
                       'anchors')
    name = 'octave_base_scale' if generator.get('octave_base_scale') else 'scales'
    options = [f'{key}.{name}={settings[0]:g}' if name == 'octave_base_scale' else f'{key}.scales=[{settings[0]:g}]']
    if settings[1] != ratios:
        options.append(f'{key}.ratios=[{",".join(f"{ratio:g}" for ratio in settings[1])}]')
    return text + f'Write --cfg-options {" ".join(options)}, which fits {best:.0%}'


def anchor_sizes(strides: Iterable[float], scales: Iterable[float], ratios: Iterable[float]) -> np.ndarray:
    """Returns height and width of all anchors, (strides * scales * ratios, 2), as in mmdet's AnchorGenerator."""
    return np.array([(stride * scale * ratio ** 0.5, stride * scale / ratio ** 0.5)
                     for stride in strides for scale in scales for ratio in ratios])


def coverage(boxes: np.ndarray, anchors: np.ndarray) -> float:
    """Fraction of boxes (N, 2) whose sides are within `MAX_FACTOR` of the sides of an anchor (A, 2)."""
    return float((_factors(boxes, anchors) < MAX_FACTOR).any(axis=1).mean())


def _factors(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Returns the larger one of the ratio of heights and the ratio of widths of each box and anchor, (N, A), >= 1."""
    ratio = np.maximum(boxes, 1e-3)[:, None] / anchors[None]  # (N, A, 2)
    return np.maximum(ratio, 1 / ratio).max(axis=2)


def _scales(generator: dict) -> list[float] | None:
    """Scales of a generator; None if it has none."""
    if generator.get('octave_base_scale'):
        octaves = int(generator.get('scales_per_octave') or 1)
        return [float(generator['octave_base_scale']) * 2 ** (octave / octaves) for octave in range(octaves)]
    scales: Any = generator.get('scales')
    scales = [scales] if isinstance(scales, (int, float)) else scales
    return [float(scale) for scale in scales] if scales else None


def fit_anchors(strides: list[float], ratios: list[float], boxes: np.ndarray
                ) -> tuple[tuple[float, list[float]], float]:
    """Returns the scale and the ratios of anchors that cover most boxes, and the covered fraction of the boxes.

    The number of ratios does not change, so that the shape of the head does not change. New ratios are used only if
    they cover more boxes. Among settings that cover equally many boxes, the one closest to the boxes is returned.
    """
    shapes = boxes[:, 0] / np.maximum(boxes[:, 1], 1e-3)
    percentiles = (50.0,) if len(ratios) == 1 else np.linspace(5, 95, len(ratios))
    own_ratios = [float(f'{ratio:.2g}') for ratio in np.percentile(shapes, percentiles)]
    candidates = []
    for change, shape in enumerate((ratios, own_ratios)):
        for scale in _SCALES:
            factors = _factors(boxes, anchor_sizes(strides, [scale], shape)).min(axis=1)
            covered = float((factors < MAX_FACTOR).mean())
            # Above 98 % coverage, unchanged ratios and close anchors count more than a higher coverage.
            candidates.append((min(covered, 0.98), -change, -float(np.log(factors).mean()), covered, (scale, shape)))
    best = max(candidates, key=lambda candidate: candidate[:3])
    return best[4], best[3]
