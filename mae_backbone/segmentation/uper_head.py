"""UPerNet head that convolves small feature maps before it enlarges them: mmseg's result with less computation."""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import uper_head
from mmseg.models.utils import resize
from torch import Tensor, nn

from mae_backbone.core.exporting import is_exporting
from mae_backbone.registry import MODELS


@MODELS.register_module()
class UPerHead(uper_head.UPerHead):
    """mmseg's `UPerHead`, with the same parameters and the same result.

    mmseg enlarges three of the four feature maps and applies a 3x3 convolution to all four at the size of the largest.
    With a ViT-B at 512 pixels, that is two thirds of the head's computation, and nine tenths of it are spent on
    interpolated values.

    Args:
        options: arguments of mmseg's `UPerHead`; a `conv_cfg` does not apply to this convolution.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fpn_bottleneck = ConvModule(
            len(self.in_channels) * self.channels, self.channels, 3, padding=1, norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg, conv_cfg=dict(type=EnlargingConv2d, align_corners=self.align_corners))

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Feature maps (B, D, h, w) of the backbone, the largest first -> (B, channels, h, w) of the largest."""
        inputs = self._transform_inputs(inputs)
        maps = [self.psp_forward(inputs)]
        for lateral, finer in zip(reversed(self.lateral_convs), reversed(inputs[:-1]), strict=True):
            above = resize(maps[0], size=finer.shape[2:], mode='bilinear', align_corners=self.align_corners)
            maps.insert(0, lateral(finer) + above)
        maps[:-1] = [conv(feature_map) for conv, feature_map in zip(self.fpn_convs, maps[:-1], strict=True)]
        return self.fpn_bottleneck(maps)


class EnlargingConv2d(nn.Conv2d):
    """3x3 convolution of feature maps that are enlarged to the size of the first, see `convolve_enlarged`."""

    def __init__(self, *sizes: Any, align_corners: bool, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.align_corners = align_corners

    def forward(self, maps: Sequence[Tensor]) -> Tensor:  # type: ignore[override]  # several maps, as UPerHead passes
        """Feature maps (B, C, h, w), the largest first -> (B, D, H, W) of the size of the first."""
        result = convolve_enlarged(maps, self.weight, align_corners=self.align_corners)
        return result if self.bias is None else result + self.bias[:, None, None]


def convolve_enlarged(maps: Sequence[Tensor], weight: Tensor, *, align_corners: bool) -> Tensor:
    """3x3 convolution, zero-padded, of feature maps (B, C, h, w) that are enlarged to the size (H, W) of the first.

    weight (D, C * len(maps), 3, 3) -> (B, D, H, W). The result equals `conv2d(cat([resize(m) for m in maps]))`: each
    map is multiplied by the nine matrices of the convolution at its own size, and the products are enlarged bilinearly,
    shifted and added. This takes (H W) / (h w) times fewer multiplications by the weight.
    """
    size = maps[0].shape[2:]
    first, *others = weight.split([feature_map.shape[1] for feature_map in maps], dim=1)
    result = F.conv2d(maps[0], first, padding=1)
    for feature_map, kernel in zip(maps[1:], others, strict=True):
        rows, columns = (_enlarge_and_shift(before, after, feature_map, align_corners)
                         for before, after in zip(feature_map.shape[2:], size, strict=True))
        # One column of the kernel at a time; channels are ordered (D, three rows of the kernel).
        products = [F.conv2d(feature_map, taps.movedim(2, 1).flatten(0, 1)[..., None, None]) @ placed
                    for taps, placed in zip(kernel.unbind(3), columns, strict=True)]
        by_row = products[0] + products[1] + products[2]
        result = result + rows.flatten(0, 1).mT @ by_row.unflatten(1, (-1, 3)).flatten(2, 3)
    return result


def _enlarge_and_shift(before: int, after: int, like: Tensor, align_corners: bool) -> Tensor:
    """Returns matrices (3, before, after) that interpolate a line of pixels and shift it by 1, 0, -1, zero-padded."""
    if is_exporting():
        return _hat_functions(before, after, like, align_corners)
    pixels = torch.eye(before, device=like.device, dtype=torch.double)
    enlarge = F.interpolate(pixels[None], size=after, mode='linear', align_corners=align_corners)[0]
    return F.pad(enlarge, (1, 1)).unfold(1, after, 1).movedim(1, 0).to(like.dtype)


def _hat_functions(before: int, after: int, like: Tensor, align_corners: bool) -> Tensor:
    """The matrices of `_enlarge_and_shift` in closed form, with operators that exist for sizes that are not known."""
    place = torch.arange(after, device=like.device) + torch.arange(-1, 2, device=like.device)[:, None]  # (3, after)
    inside, place = (place >= 0) & (place < after), place.double()
    source = place * (before - 1) / (after - 1) if align_corners else (place + 0.5) * before / after - 0.5
    distance = source.clamp(0, before - 1)[:, None] - torch.arange(before, device=like.device)[:, None]
    return ((1 - distance.abs()).clamp(min=0) * inside[:, None]).to(like.dtype)
