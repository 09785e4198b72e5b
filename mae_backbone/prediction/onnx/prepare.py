"""Prepares images for an exported model with NumPy and OpenCV, in the same way as the test pipeline of the training.

`prepare` in the description of a file is one of

    {'kind': 'evaluation', 'image_size': [H, W], 'augment': {...}}     classification, see `evaluation_transform`
    {'kind': 'pipeline', 'steps': [...], 'pad': {...}}                 mmdet and mmseg, see `pipeline_settings`
    {'kind': 'unknown', 'reason': '...'}                               images must be prepared by the user
"""
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config

from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.reading import Reading
from mae_backbone.formats.dataset_spec import dataset_specs
from mae_backbone.prediction.onnx.description import MAX_SIDE, Description

# Options of Resize, with the values for which `resize` has the same result.
_RESIZE = {'interpolation': 'bilinear', 'backend': 'cv2', 'clip_object_border': True}
# Transforms of a test pipeline that do not change the pixels.
_NO_EFFECT = ('LoadImageFromFile', 'LoadImageFromNDArray', 'LoadImage', 'LoadAnnotations', 'PackDetInputs',
              'PackSegInputs')


def pipeline_settings(cfg: Config | None, preprocessor: Any) -> dict[str, Any]:
    """Describes how a config of mmdet or mmseg prepares images for a test.

    Args:
        cfg: config of the model; None if there is none.
        preprocessor: data preprocessor of the model, which pads images.

    Returns:
        `prepare` of a description. Steps are {'scale': [width, height], 'keep_ratio': bool} or
        {'factor': [x, y], 'keep_ratio': bool}; pad is {'size': [H, W] or None, 'divisor': n, 'value': v}.
    """
    specs = dataset_specs(cfg, 'test') if cfg is not None else []
    if not specs:
        return {'kind': 'unknown', 'reason': 'the checkpoint has no test pipeline'}
    steps: list[dict[str, Any]] = []
    for step in specs[0].cfg.pipeline:
        name = str(step['type']).rpartition('.')[2]
        if name == 'Resize':
            changed = [key for key, value in _RESIZE.items() if step.get(key, value) != value]
            if changed:
                return {'kind': 'unknown', 'reason': f'the test pipeline has a Resize with {changed[0]}='
                                                     f'{step[changed[0]]!r}'}
            steps.append(_resize_step(step))
        elif name not in _NO_EFFECT:
            return {'kind': 'unknown', 'reason': f'the test pipeline has the step {name}'}
    padding: dict[str, Any] = {'size_divisor': getattr(preprocessor, 'pad_size_divisor', 1)}
    if hasattr(preprocessor, 'test_cfg'):  # a data preprocessor of mmseg pads test images by `test_cfg`
        padding = preprocessor.test_cfg or {}
    size = padding.get('size')
    return {'kind': 'pipeline', 'steps': steps, 'pad': {
        'size': [int(side) for side in size] if size else None, 'divisor': int(padding.get('size_divisor') or 1),
        'value': float(getattr(preprocessor, 'pad_val', getattr(preprocessor, 'pad_value', 0)) or 0)}}


def _resize_step(step: Any) -> dict[str, Any]:
    keep = bool(step.get('keep_ratio', False))
    if step.get('scale') is not None:
        scale = step['scale']
        return {'scale': [scale, scale] if isinstance(scale, int) else [int(side) for side in scale],
                'keep_ratio': keep}
    factor = step['scale_factor']
    return {'factor': [float(factor)] * 2 if isinstance(factor, (int, float)) else [float(side) for side in factor],
            'keep_ratio': keep}


def prepare_function(description: Description, reading: Reading = DEFAULT) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that resizes an image (H, W, C) to (H', W', C) before it is normalized.

    Color images are uint8 RGB before and after. Images of 16 bits are converted to float32.

    Args:
        description: metadata of the file.
        reading: decoding of image files.

    Raises:
        ValueError: the description is incomplete.
    """
    settings = description.prepare
    kind = settings.get('kind')
    if kind == 'evaluation':
        size, augment = settings.get('image_size', list(description.image_size)), settings.get('augment')
        if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side <= MAX_SIDE
                                                                  for side in size)):
            raise ValueError(f'image_size is {str(size)[:60]}')
        transform = evaluation_transform(size, augment, reading)
        return lambda image: transform(image).permute(1, 2, 0).numpy()
    if kind == 'pipeline':
        steps = [_checked(step) for step in settings.get('steps', [])]

        def apply(image: np.ndarray) -> np.ndarray:
            image = image if image.dtype == np.uint8 else image.astype(np.float32)
            for step in steps:
                image = resize(image, **step)
            return image
        return apply
    raise ValueError(f'{settings.get("reason", "it does not say how images are prepared")}')


def resize(image: np.ndarray, *, scale: tuple[float, float] | None = None, factor: tuple[float, float] | None = None,
           keep_ratio: bool = False) -> np.ndarray:
    """Resizes an image (H, W, C) as mmcv's `Resize` does.

    Args:
        image: image (H, W, C).
        scale: (width, height) in pixels. With `keep_ratio`, the long side of the image is at most the larger one, and
            the short side at most the smaller one.
        factor: factors of width and height, instead of `scale`.
        keep_ratio: keep the aspect ratio.

    Raises:
        ValueError: the result would have a side of 0 or more than `MAX_SIDE` pixels.
    """
    height, width = image.shape[:2]
    if factor is not None:
        scale = int(width * factor[0] + 0.5), int(height * factor[1] + 0.5)
    assert scale is not None
    new_width, new_height = int(scale[0]), int(scale[1])
    if keep_ratio:
        ratio = min(max(scale) / max(height, width), min(scale) / min(height, width))
        new_width, new_height = int(width * ratio + 0.5), int(height * ratio + 0.5)
    if not 0 < new_width <= MAX_SIDE or not 0 < new_height <= MAX_SIDE:
        raise ValueError(f'an image of {height}x{width} pixels would be resized to {new_height}x{new_width}')
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(new_height, new_width, -1)  # OpenCV drops the axis of a single channel


def padding(description: Description, height: int, width: int) -> tuple[int, int]:
    """Returns the numbers of rows at the bottom and columns on the right by which an image is padded."""
    pad = description.prepare.get('pad') or {}
    size, divisor = pad.get('size'), pad.get('divisor', 1)
    bottom, right = 0, 0
    if size:
        bottom, right = max(size[0] - height, 0), max(size[1] - width, 0)
    elif divisor > 1:
        bottom, right = -height % divisor, -width % divisor
    return bottom, right


def _checked(step: Any) -> dict[str, Any]:
    """Returns a step of `prepare` as arguments of `resize`. Raises ValueError if it is not valid."""
    if not isinstance(step, dict) or not set(step) <= {'scale', 'factor', 'keep_ratio'} or len(
            set(step) & {'scale', 'factor'}) != 1:
        raise ValueError(f'a step of its preparation is {str(step)[:60]}')
    values = step.get('scale', step.get('factor'))
    if not (isinstance(values, list) and len(values) == 2 and all(
            isinstance(value, (int, float)) and 0 < value <= MAX_SIDE for value in values)):
        raise ValueError(f'a step of its preparation is {str(step)[:60]}')
    return {name: tuple(value) if isinstance(value, list) else bool(value) for name, value in step.items()}
