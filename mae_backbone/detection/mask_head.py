"""Mask head with the initialization of detectron2."""
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as MMDetFCNMaskHead
from torch import nn

from mae_backbone.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(MMDetFCNMaskHead):
    """mmdet's `FCNMaskHead`, whose last layer starts at N(0, 0.001) as in detectron2's `MaskRCNNConvUpsampleHead`.

    mmdet initializes the last layer as if a ReLU followed it, with a deviation of 0.158 for 80 classes.
    """

    def init_weights(self) -> None:
        """Initializes all layers."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.001)
