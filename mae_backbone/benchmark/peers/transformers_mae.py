"""ViTMAE of Hugging Face transformers."""
import argparse
from typing import Any

from torch import Tensor, nn

from mae_backbone.benchmark.peers.peer import PeerMAE, StepPeer, square
from mae_backbone.checkpoints.layouts.huggingface import HuggingFace
from mae_backbone.core.vit import ARCHS


class TransformersMAE(StepPeer):
    """`ViTMAEForPreTraining`, with the constants of MAE that its config does not have by default."""

    title = package = 'transformers'

    def build(self, args: argparse.Namespace) -> PeerMAE:
        """Builds the model. Raises ValueError if the images are not square."""
        from transformers import ViTMAEConfig, ViTMAEForPreTraining
        arch, (width, depth, heads) = ARCHS[args.arch], args.decoder
        return _Model(ViTMAEForPreTraining(ViTMAEConfig(
            hidden_size=arch.width, num_hidden_layers=arch.depth, num_attention_heads=arch.heads,
            intermediate_size=4 * arch.width, layer_norm_eps=1e-6, image_size=square(args, self.title),
            patch_size=args.patch_size, decoder_hidden_size=width, decoder_num_hidden_layers=depth,
            decoder_num_attention_heads=heads, decoder_intermediate_size=4 * width, mask_ratio=args.mask_ratio,
            norm_pix_loss=True)))


class _Model(PeerMAE):
    def __init__(self, mae: Any) -> None:
        super().__init__()
        self.mae = mae

    @property
    def decoder_embed(self) -> nn.Module:
        return self.mae.decoder.decoder_embed

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.mae(images, noise=noise).loss

    def weights(self) -> dict[str, Tensor]:
        return HuggingFace().to_ours(self.mae.state_dict())
