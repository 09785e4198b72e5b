"""A part of a model that is ready for export: module, inputs, names and metadata."""
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# Our choice. Largest batch and largest side in pixels of a dynamic axis.
MAX_BATCH, MAX_SIDE = 4096, 16384
# Features of a ViT differ by about this between PyTorch and onnxruntime, as a fraction (docs/prediction_and_export.md).
# Of two scores that are as close as that, each is the higher one in about half of the trials.
ROUNDING, ALTERNATIVES = 1e-6, 16


class ExportError(ValueError):
    """A model or a part of it that cannot be exported as asked for."""


class Axis(NamedTuple):
    """A dynamic axis of an input.

    Attributes:
        name: such as 'batch', 'height' or 'width'.
        multiple: sizes must be multiples of this number.
        minimum, maximum: smallest and largest size.
    """

    name: str
    multiple: int = 1
    minimum: int = 1
    maximum: int = MAX_SIDE


@dataclass(frozen=True)
class ExportTarget:
    """Model and options of an export.

    Attributes:
        module: takes and returns tensors only, in evaluation mode; no parameter requires a gradient.
        inputs: examples. Sizes of dynamic axes must be 2 or more, and differ from the sizes of the model if it has
            other code for these.
        input_names, output_names: in the order of the arguments and of the results of the module.
        dynamic: for each input the axes whose size may change. All other sizes are fixed.
        output_axes: for each output names of its dynamic axes, for the reader of the file.
        metadata: metadata of the file, such as classes and pixel statistics.
        compare: error of outputs against the expected ones, for verification; None for `verify.largest_error`.
        decides: outputs depend on decisions that rounding may change, such as the order of scores. A file that differs
            is also compared with the outputs of the module with other rounding errors, see `alternatives`.
        limit: largest error that verification accepts; None for `verify.LIMIT`.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, Axis]] = field(default_factory=dict)
    output_axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    compare: Callable[..., float] | None = None
    limit: float | None = None
    decides: bool = False

    def expected(self, *inputs: Tensor) -> list[np.ndarray]:
        """Outputs of the module in PyTorch."""
        with torch.no_grad():
            outputs = self.module(*inputs)
        return [one.numpy() for one in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]

    def alternatives(self, *inputs: Tensor) -> Iterator[list[np.ndarray]]:
        """Yields outputs of the module with rounding errors of about `ROUNDING` in the result of each layer."""
        generator = torch.Generator().manual_seed(0)

        def disturb(layer: nn.Module, arguments: object, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            return output * (1 + ROUNDING * torch.randn(output.shape, generator=generator, dtype=output.dtype))
        hooks = [layer.register_forward_hook(disturb) for layer in self.module.modules()
                 if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
        try:
            for _ in range(ALTERNATIVES):
                yield self.expected(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def with_metadata(self, **entries: str) -> 'ExportTarget':
        """Returns the target with further entries of metadata."""
        return replace(self, metadata={**self.metadata, **entries})


def image_axes(*, batch: bool, size: bool, multiple: int = 1, minimum: int | None = None) -> dict[int, Axis]:
    """Dynamic axes of images (B, C, H, W)."""
    axes = {0: Axis('batch', maximum=MAX_BATCH)} if batch else {}
    if size:
        axes |= {axis: Axis(name, multiple, minimum or multiple, MAX_SIDE // multiple * multiple)
                 for axis, name in ((2, 'height'), (3, 'width'))}
    return axes


def to_pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """images of mean 0 and deviation 1 -> pixels of a type, uint8 or uint16."""
    largest = torch.iinfo(dtype).max
    return (images * largest * 0.25 + largest / 2).round().clamp(0, largest).to(dtype)
