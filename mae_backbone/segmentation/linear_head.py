"""Head of a dense linear probe: one linear layer on every patch."""
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mae_backbone.registry import MODELS


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """BatchNorm without scale and shift, then a linear layer from every patch of one feature map to the classes.

    The norm is from linear probing in the MAE paper (appendix A.1). DINOv2's linear segmentation uses it, too.

    Args:
        options: arguments of mmseg's heads; `in_channels` and `channels` are both D, the width of the feature map.

    Raises:
        ValueError: `in_channels` and `channels` differ.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.in_channels != self.channels:
            raise ValueError(f'a linear head has channels={self.channels}, but its feature map has '
                             f'in_channels={self.in_channels}: set both to the width of the backbone')
        self.norm = nn.BatchNorm2d(self.channels, affine=False, eps=1e-6)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Feature maps -> logits (B, num_classes, h, w), from the map at `in_index` (B, D, h, w)."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
