"""Modules around an exported model: pixels in front of it, half precision, probabilities or classes behind it."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mae_backbone.prediction.onnx.description import Description


class Chain(nn.Module):
    """Applies modules one after another. The last one may return several tensors."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList(modules)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """images (B, C, H, W) -> outputs of the last module."""
        value = images
        for module in self.stages:
            value = module(value)
        return value


class Pixels(nn.Module):
    """Pixels (B, C, H, W) -> input of the model: resized, in its order of channels, normalized.

    Pixels are uint8, RGB, or uint8 or uint16 in the order of a reader of bands.

    Args:
        description: mean, std and channels of the model.
        size: (H, W) that images are resized to, bilinearly with antialiasing and without keeping the ratio of their
            sides; None to leave them as they are.
    """

    def __init__(self, description: Description, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.size, self.flips = size, description.channels == 'BGR'
        self.mean: Tensor | None
        self.std: Tensor | None
        for name in ('mean', 'std'):
            values = getattr(description, name)
            self.register_buffer(name, torch.tensor(values).reshape(-1, 1, 1) if values else None)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, C, H, W) uint8 or uint16 -> (B, C, H', W') float32."""
        images = pixels.float()
        if self.size is not None:
            images = F.interpolate(images, self.size, mode='bilinear', antialias=True)
        if self.flips:
            images = images.flip(1)
        return images if self.mean is None or self.std is None else (images - self.mean) / self.std


class HalfPrecision(nn.Module):
    """A module that computes in float16; its inputs and outputs stay float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """images (B, C, H, W) -> outputs of the module."""
        outputs = self.module(images.half())
        return outputs.float() if isinstance(outputs, Tensor) else tuple(one.float() for one in outputs)


class Activation(nn.Module):
    """Logits (B, num_classes, ...) -> probabilities (B, num_classes, ...), or classes (B, ...) int64.

    Args:
        kind: 'logits', 'softmax' or 'argmax'.
        threshold: of a single logit, whose classes are 0 and 1; its probability is the sigmoid.
    """

    def __init__(self, kind: str, threshold: float | None = None) -> None:
        super().__init__()
        self.kind, self.threshold = kind, threshold

    def forward(self, logits: Tensor) -> Tensor:
        """logits (B, num_classes, ...) -> outputs of the kind `kind`."""
        if self.kind == 'softmax':
            return logits.sigmoid() if self.threshold is not None else logits.softmax(dim=1)
        if self.kind == 'argmax':
            return (logits[:, 0].sigmoid() > self.threshold).long() if self.threshold is not None else logits.argmax(1)
        return logits


OUTPUT_NAMES = {'logits': 'logits', 'softmax': 'scores', 'argmax': 'labels'}


class Maps(nn.Module):
    """Backbone, or backbone and neck, whose outputs are maps.

    Args:
        modules: that are applied one after another to images (B, C, H, W).
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, C, H, W) -> maps (B, D, h, w)."""
        value = images
        for module in self.parts:
            value = module(value)
        return tuple(value)
