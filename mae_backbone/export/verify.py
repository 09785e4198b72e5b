"""Compares an exported file with the model in PyTorch, on five images at up to three sizes."""
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mae_backbone.export.target import Axis, ExportError, ExportTarget, to_pixels
from mae_backbone.prediction.onnx.description import PREFIX

IMAGES = 5
# Largest difference, see `largest_error`: of float32, and of models in half precision (10 bits of mantissa, 2**-11 of
# rounding in each of a few hundred operations).
LIMIT, HALF_LIMIT = 1e-4, 2e-2
# Factors of height and width, for dynamic sizes: smaller and wide, as the example, larger and high.
_SCALES = ((1.0, 1.0), (0.75, 1.25), (1.5, 1.25))

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # inputs -> outputs of an exported file


@dataclass(frozen=True)
class Verification:
    """Result of a comparison.

    Attributes:
        error: the largest difference, see `largest_error`.
        limit: that it had to stay below.
        images: number of images, at each size.
        sizes: (H, W) of the images.
    """

    error: float
    limit: float
    images: int
    sizes: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        sizes = ', '.join(f'{h}x{w}' for h, w in self.sizes)
        return (f'largest difference to PyTorch {self.error:.2e} (limit {self.limit:.0e}), {self.images} images of '
                f'{sizes}')

    def metadata(self) -> dict[str, str]:
        """Entry for the metadata of the file."""
        return {f'{PREFIX}verified': json.dumps(dict(error=float(f'{self.error:.3g}'), limit=self.limit,
                                                     images=self.images, sizes=self.sizes))}


def verify(target: ExportTarget, run: Run) -> Verification:
    """Compares outputs of a file with the outputs of the module of its target.

    Args:
        target: that the file was made from.
        run: computes the outputs of the file.

    Raises:
        ExportError: the outputs differ by more than the limit, or the file cannot be run.
    """
    compare: Callable[..., float] = target.compare or largest_error
    limit = target.limit or LIMIT
    error, sizes = 0.0, list[tuple[int, int]]()
    for inputs in example_inputs(target):
        height, width = inputs[0].shape[2:]
        if (height, width) not in sizes:
            sizes.append((height, width))
        expected = target.expected(*inputs)
        try:
            outputs = run([one.numpy() for one in inputs])
        except Exception as failure:  # of onnxruntime or torch.export
            raise ExportError(f'the exported file does not run on images of {height}x{width} '
                              f'({str(failure).strip()[:300]})') from failure
        difference = compare(expected, outputs)
        if target.decides and not difference <= limit:
            difference = compare(expected, outputs, [*target.alternatives(*inputs)])
        error = max(error, difference)
    result = Verification(error, limit, IMAGES, tuple(sizes))
    if not error <= limit:  # also for NaN
        raise ExportError(f'the exported file differs from the model: {result}. No file was written')
    return result


def example_inputs(target: ExportTarget) -> Iterator[tuple[Tensor, ...]]:
    """Yields inputs of five images at each size, in batches of two and three if the batch is dynamic."""
    axes = target.dynamic.get(target.input_names[0], {})
    generator = torch.Generator().manual_seed(0)
    batches = [2, IMAGES - 2] if 0 in axes else [len(target.inputs[0])] * -(-IMAGES // len(target.inputs[0]))
    for scale in _SCALES if 2 in axes else _SCALES[:1]:
        for batch in batches:
            shape = (batch, target.inputs[0].shape[1], *(
                _scaled(size, factor, axes.get(axis)) for axis, (size, factor)
                in enumerate(zip(target.inputs[0].shape[2:], scale, strict=True), 2)))
            yield _images(shape, target.inputs[0].dtype, generator), *(
                one.expand(batch, *one.shape[1:]) if 0 in target.dynamic.get(name, {}) else one
                for name, one in zip(target.input_names[1:], (one[:1] for one in target.inputs[1:]), strict=True))


def largest_error(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """The largest difference of any output.

    Of floats: the largest absolute difference, divided by the largest absolute value if that is above 1. Of integers,
    such as labels: the fraction of elements that differ. Infinite if shapes differ or a value is not finite.
    """
    if len(expected) != len(found):
        return float('inf')
    return max((_error(one, other) for one, other in zip(expected, found, strict=True)), default=float('inf'))


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape or expected.size == 0:
        return float('inf')
    if not np.issubdtype(expected.dtype, np.floating):
        return float((expected != found).mean())
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float('inf')
    return float(np.abs(expected - found).max() / max(1.0, float(np.abs(expected).max())))


def _scaled(size: int, factor: float, axis: Axis | None) -> int:
    if axis is None:
        return size
    rounded = math.ceil if factor > 1 else math.floor  # so that the sizes of small models differ, too
    return min(max(rounded(size * factor / axis.multiple) * axis.multiple, axis.minimum), axis.maximum)


def _images(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W) with large and small structures: bytes, or floats of mean 0 and deviation 1."""
    coarse = torch.randn(*shape[:2], 4, 4, generator=generator)
    images = 0.8 * F.interpolate(coarse, shape[2:], mode='bicubic') + 0.6 * torch.randn(shape, generator=generator)
    return images if dtype.is_floating_point else to_pixels(images, dtype)
