"""The head of a linear probe: one layer for each patch."""
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mae_backbone.registry import MODELS


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """BatchNorm without scale and shift, then a linear layer from each patch of one map to the classes.

    The norm is that of the MAE paper's linear probing (appendix A.1), which DINOv2's linear segmentation has too.

    Args:
        options: as in mmseg's heads, `in_channels` and `channels` both D of the map.
    """

    def __init__(self, **options) -> None:
        super().__init__(**options)
        if self.in_channels != self.channels:
            raise ValueError(f'channels={self.channels} of a linear head, its map has in_channels={self.in_channels}: '
                             'set both to the width of the backbone')
        self.norm = nn.BatchNorm2d(self.channels, affine=False, eps=1e-6)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """inputs: maps, of which `in_index` is taken, (B, D, h, w) -> logits (B, classes, h, w)."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
