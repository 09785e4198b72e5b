"""Encoders: maps of a ViT and its class token."""
from typing import Any

from torch import Tensor, nn

from mae_backbone.core.vit import ViT
from mae_backbone.models.timm_vit import TimmViT


class EncoderOutputs(nn.Module):
    """Features of an encoder, as `Model.features` computes them in PyTorch.

    Args:
        encoder: a ViT of this package or of timm.

    Attributes:
        output_names: 'features', and 'class_token' if the encoder has one that is computed with its maps.
    """

    def __init__(self, encoder: ViT | TimmViT) -> None:
        super().__init__()
        self.encoder: Any = encoder
        has_token = encoder.cls_token is not None and not (isinstance(encoder, ViT) and encoder.relative_bias)
        self.output_names = ('features', 'class_token') if has_token else ('features',)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, C, H, W) -> maps (B, D, h, w) of the last block, and with a class token (B, D)."""
        if len(self.output_names) == 1:
            return (self.encoder.feature_maps(images, (-1,))[0],)
        grid, encoder = self.encoder.check(images), self.encoder
        tokens = encoder.encode(encoder.embed(images)) if isinstance(encoder, ViT) else encoder.tokens(images)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, grid), tokens[:, 0]
