"""The simple feature pyramid of ViTDet: one map of a plain ViT -> maps of several strides."""
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
    """Builds each level from the last map alone (ViTDet, section 3); parameters are named as in detectron2.

    Args:
        in_channels: D of the map.
        out_channels: channels of each level; 256 in ViTDet.
        input_stride: pixels between the patches of the map.
        strides: of the levels, each the input stride times or divided by a power of two.
        extra_levels: further levels, each the last one subsampled by 2 (detectron2's `LastLevelMaxPool`).
        calibrate: put a BatchNorm without scale and shift before the levels, as the MAE paper (appendix A.1) does in
            linear probing. The tokens of a briefly pretrained MAE have a large part in common, which the norms of the
            pyramid, over channels, would leave in. Not in ViTDet.

    Raises:
        ValueError: a stride that no power of two leads to.
    """

    def __init__(self, in_channels: int, *, out_channels: int = 256, input_stride: int = 16,
                 strides: Sequence[int] = (4, 8, 16, 32), extra_levels: int = 1, calibrate: bool = False) -> None:
        super().__init__()
        self.extra_levels = extra_levels
        self.calibration = nn.BatchNorm2d(in_channels, affine=False, eps=1e-6) if calibrate else nn.Identity()
        self.names = []
        for stride in strides:
            if not (_is_power_of_two(stride) and _is_power_of_two(input_stride)):
                raise ValueError(f'strides={tuple(strides)} with input_stride={input_stride}: every stride must be a '
                                 'power of two, the input stride (the patch size) too')
            steps = int(math.log2(input_stride / stride))
            layers, channels = _rescale(in_channels, steps)
            layers += [ConvNorm(channels, out_channels, kernel_size=1),
                       ConvNorm(out_channels, out_channels, kernel_size=3, padding=1)]
            self.names.append(f'simfp_{int(math.log2(stride))}')  # as detectron2 counts its levels
            self.add_module(self.names[-1], nn.Sequential(*layers))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """maps: the last is taken, (B, D, h, w) -> levels (B, out_channels, h', w'), finest first."""
        calibrated = self.calibration(maps[-1])
        levels = [getattr(self, name)(calibrated) for name in self.names]
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then a LayerNorm over channels."""

    def __init__(self, in_channels: int, out_channels: int, **options) -> None:
        super().__init__(in_channels, out_channels, bias=False, **options)
        # The initialisation of detectron2's pyramid (`c2_msra_fill`).
        nn.init.kaiming_normal_(self.weight, mode='fan_out', nonlinearity='relu')
        self.norm = LayerNorm2d(out_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, h, w) -> (B, C', h, w)."""
        return self.norm(super().forward(x))


def _is_power_of_two(number: int) -> bool:
    return number >= 1 and math.log2(number).is_integer()


def _rescale(channels: int, steps: int) -> tuple[list[nn.Module], int]:
    """Layers that double the map `steps` times (or halve it where negative), and the channels that leave them."""
    if steps < 0:
        return [nn.MaxPool2d(2**-steps)], channels
    layers: list[nn.Module] = []
    for step in range(steps):
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels //= 2
        if step < steps - 1:
            layers += [LayerNorm2d(channels, eps=1e-6), nn.GELU()]
    return layers, channels
