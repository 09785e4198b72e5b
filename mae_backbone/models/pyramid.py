"""Feature maps of a plain ViT, of one stride, to several strides: simple feature pyramid, and inputs of an FPN."""
import math
from collections.abc import Sequence

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mae_backbone.registry import MODELS

# `norm_cfg=dict(type='mae_backbone.LayerNorm2d', eps=1e-6)` gives mmdet's heads the channel-first LayerNorm of ViTDet.
MODELS.register_module(name='LayerNorm2d', module=LayerNorm2d)


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """Builds each level from the last map only (ViTDet, section 3); parameters are named as in detectron2.

    Args:
        in_channels: D of the map.
        out_channels: channels of each level; 256 in ViTDet.
        input_stride: stride of the map in pixels, the patch size.
        strides: strides of the levels in pixels, each the input stride times or divided by a power of two: 3.5, 7, 14
            and 28 for patches of 14 pixels.
        extra_levels: further levels, each the previous one subsampled by 2 (detectron2's `LastLevelMaxPool`).
        calibrate: apply a BatchNorm without scale and shift first, as the MAE paper (appendix A.1) does in linear
            probing. Not in ViTDet. The tokens of a briefly pretrained MAE share a large mean, which the norms of the
            pyramid do not remove, since they normalize over channels.

    Raises:
        ValueError: a stride is not the input stride times or divided by a power of two.
    """

    def __init__(self, in_channels: int, *, out_channels: int = 256, input_stride: int = 16,
                 strides: Sequence[float] = (4, 8, 16, 32), extra_levels: int = 1, calibrate: bool = False) -> None:
        super().__init__()
        self.extra_levels = extra_levels
        self.calibration = nn.BatchNorm2d(in_channels, affine=False, eps=1e-6) if calibrate else nn.Identity()
        self.names = []
        for stride, steps in zip(strides, _steps(strides, input_stride), strict=True):
            layers, channels = _rescale(in_channels, steps)
            layers += [ConvNorm(channels, out_channels, kernel_size=1),
                       ConvNorm(out_channels, out_channels, kernel_size=3, padding=1)]
            self.names.append(f'simfp_{int(math.log2(stride))}')  # as detectron2 counts its levels
            if self.names[-1] in self.names[:-1]:
                raise ValueError(f'strides={tuple(strides)}: two levels would share the layers {self.names[-1]}, '
                                 'expected different strides of 1 or more')
            self.add_module(self.names[-1], nn.Sequential(*layers))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """maps -> levels (B, out_channels, h', w'), finest first. Only the last map (B, D, h, w) is used."""
        calibrated = self.calibration(maps[-1])
        levels = [getattr(self, name)(calibrated) for name in self.names]
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)


@MODELS.register_module()
class Rescale(nn.Module):
    """Rescales maps of one stride to several strides, as input of an FPN such as mmdet's.

    In ViTDet's FPN on the last map (figure 2b) all levels come from one map. In its FPN on four stages (figure 2a), and
    in the detector of the MAE paper, each level comes from the output of another block, see `out_indices` of the
    backbone.

    Args:
        in_channels: D of the maps.
        input_stride: stride of the maps in pixels, the patch size.
        strides: strides of the levels in pixels, each the input stride times or divided by a power of two.
        narrowing: halve the channels each time the side doubles, as ViTDet does; otherwise all levels have D channels.
        norm: between two doublings, 'LN' over channels (ViTDet) or 'GN' with 32 groups (MAE paper).

    Raises:
        ValueError: a stride is not the input stride times or divided by a power of two, or the norm is unknown.
    """

    def __init__(self, in_channels: int, *, input_stride: int = 16, strides: Sequence[float] = (4, 8, 16, 32),
                 narrowing: bool = True, norm: str = 'LN') -> None:
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f'norm={norm!r}, expected one of {", ".join(_NORMS)}')
        levels = [_rescale(in_channels, steps, narrowing=narrowing, norm=norm)
                  for steps in _steps(strides, input_stride)]
        self.levels = nn.ModuleList(nn.Sequential(*layers) for layers, _ in levels)
        self.out_channels = [channels for _, channels in levels]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """maps (B, D, h, w), one per level or one for all -> levels (B, D', h', w'), finest first."""
        if len(maps) not in (1, len(self.levels)):
            raise ValueError(f'{len(maps)} maps for {len(self.levels)} levels: set out_indices of the backbone to one '
                             'block, or to one for each of the strides')
        return tuple(level(maps[i % len(maps)]) for i, level in enumerate(self.levels))


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then a LayerNorm over channels."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, padding: int = 0) -> None:
        # detectron2's pyramid keeps PyTorch's initialization, unlike its heads and its FPN (`c2_msra_fill`).
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self.norm = LayerNorm2d(out_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, h, w) -> (B, C', h, w)."""
        return self.norm(super().forward(x))


def _steps(strides: Sequence[float], input_stride: float) -> list[int]:
    """Number of doublings of the map for each stride; negative numbers halve it."""
    for stride in strides:
        if stride <= 0 or input_stride <= 0 or not math.log2(input_stride / stride).is_integer():
            raise ValueError(f'strides={tuple(strides)} with input_stride={input_stride}: every stride must be the '
                             'input stride (the patch size) times or divided by a power of two')
    return [int(math.log2(input_stride / stride)) for stride in strides]


_NORMS = {'LN': lambda channels: LayerNorm2d(channels, eps=1e-6), 'GN': lambda channels: nn.GroupNorm(32, channels)}


def _rescale(channels: int, steps: int, *, narrowing: bool = True, norm: str = 'LN') -> tuple[list[nn.Module], int]:
    """Layers that double the map `steps` times, or halve it if negative; and their output channels."""
    if steps < 0:
        return [nn.MaxPool2d(2**-steps)], channels
    layers: list[nn.Module] = []
    for step in range(steps):
        narrower = channels // 2 if narrowing else channels
        layers.append(nn.ConvTranspose2d(channels, narrower, kernel_size=2, stride=2))
        channels = narrower
        if step < steps - 1:
            layers += [_NORMS[norm](channels), nn.GELU()]
    return layers, channels
