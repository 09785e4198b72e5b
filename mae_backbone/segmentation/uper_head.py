"""mmseg's UPerNet head, in which small maps are convolved before they are enlarged: the same outcome with less work."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import uper_head
from mmseg.models.utils import resize
from torch import Tensor, nn

from mae_backbone.registry import MODELS


@MODELS.register_module()
class UPerHead(uper_head.UPerHead):
    """mmseg's `UPerHead`, of the same parameters and outcome.

    mmseg enlarges three of the four maps and takes a 3x3 convolution of all four at the size of the largest. For a
    ViT-B at 512 pixels that is two thirds of the work of the head, nine tenths of it on numbers that are
    interpolated.

    Args:
        options: of mmseg's; a `conv_cfg` is not taken for that convolution.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.fpn_bottleneck = ConvModule(
            len(self.in_channels) * self.channels, self.channels, 3, padding=1, norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg, conv_cfg=dict(type=EnlargingConv2d, align_corners=self.align_corners))

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """Maps (B, D, h, w) of the backbone, the largest first -> (B, channels, h, w) of the largest."""
        inputs = self._transform_inputs(inputs)
        maps = [self.psp_forward(inputs)]
        for lateral, finer in zip(reversed(self.lateral_convs), reversed(inputs[:-1]), strict=True):
            above = resize(maps[0], size=finer.shape[2:], mode='bilinear', align_corners=self.align_corners)
            maps.insert(0, lateral(finer) + above)
        maps[:-1] = [conv(one) for conv, one in zip(self.fpn_convs, maps[:-1], strict=True)]
        return self.fpn_bottleneck(maps)


class EnlargingConv2d(nn.Conv2d):
    """A 3x3 convolution of maps that are enlarged to the size of the first, see `convolve_enlarged`."""

    def __init__(self, *sizes: int, align_corners: bool, **options) -> None:
        super().__init__(*sizes, **options)
        self.align_corners = align_corners

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, h, w), the largest first -> (B, D, H, W) of the size of the first."""
        found = convolve_enlarged(maps, self.weight, align_corners=self.align_corners)
        return found if self.bias is None else found + self.bias[:, None, None]


def convolve_enlarged(maps: Sequence[Tensor], weight: Tensor, *, align_corners: bool) -> Tensor:
    """3x3 convolution, padded with zeros, of maps (B, C, h, w) that are enlarged to the size (H, W) of the first.

    weight (D, C * number of maps, 3, 3) -> (B, D, H, W). It equals `conv2d(cat([resize(one) ...]))`: a map is
    multiplied with the nine matrices of the convolution at its own size, and what comes out is enlarged bilinearly,
    shifted and added. That takes (H W) / (h w) times fewer multiplications with the weight.
    """
    size = maps[0].shape[2:]
    first, *others = weight.split([one.shape[1] for one in maps], dim=1)
    found = F.conv2d(maps[0], first, padding=1)
    for one, part in zip(maps[1:], others, strict=True):
        rows, columns = (_enlarge_and_shift(before, after, one, align_corners)
                         for before, after in zip(one.shape[2:], size, strict=True))
        # The columns of one tap of the convolution at a time; channels are ordered (D, three taps of rows).
        by_row = sum(F.conv2d(one, taps.movedim(2, 1).flatten(0, 1)[..., None, None]) @ placed
                     for taps, placed in zip(part.unbind(3), columns, strict=True))
        found = found + rows.flatten(0, 1).mT @ by_row.unflatten(1, (-1, 3)).flatten(2, 3)
    return found


def _enlarge_and_shift(before: int, after: int, like: Tensor, align_corners: bool) -> Tensor:
    """Matrices (3, before, after) that interpolate a line of pixels and shift it by 1, 0 and -1, zeros moving in."""
    pixels = torch.eye(before, device=like.device, dtype=torch.double)
    enlarge = F.interpolate(pixels[None], size=after, mode='linear', align_corners=align_corners)[0]
    return F.pad(enlarge, (1, 1)).unfold(1, after, 1).movedim(1, 0).to(like.dtype)
