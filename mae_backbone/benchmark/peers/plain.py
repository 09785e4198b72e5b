"""Plain forms: the papers written down without optimizations, by this package. They need no other code."""
import argparse
from collections.abc import Sequence
from typing import Any, ClassVar

import PIL
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import default_collate

from mae_backbone.benchmark.peers.peer import BackbonePeer, LoaderPeer, PeerMAE, StepPeer
from mae_backbone.benchmark.reference_loader import ReferenceImages
from mae_backbone.benchmark.reference_mae import ReferenceMAE
from mae_backbone.benchmark.reference_vitdet import build_reference_vitdet
from mae_backbone.core.vit import ARCHS
from mae_backbone.data.sampler import Draw
from mae_backbone.data.sources import open_source


class PlainMAE(StepPeer):
    """`ReferenceMAE`: MAE on timm's blocks, with attention in separate steps."""

    title, attention = 'plain form', 'eager'
    optimizer: ClassVar[dict[str, Any]] = dict(foreach=False, fused=False)

    def code(self) -> str:
        """Describes the compared code."""
        return "plain form of this package, on timm's blocks"

    def build(self, args: argparse.Namespace) -> PeerMAE:
        """Builds the model."""
        width, depth, heads = args.decoder
        return _Model(ReferenceMAE(
            ARCHS[args.arch], image_size=(args.image_size[0], args.image_size[-1]), patch_size=args.patch_size,
            decoder_width=width, decoder_depth=depth, decoder_heads=heads, mask_ratio=args.mask_ratio))


class _Model(PeerMAE):
    def __init__(self, mae: ReferenceMAE) -> None:
        super().__init__()
        self.mae = mae

    @property
    def decoder_embed(self) -> nn.Module:
        return self.mae.decoder_embed

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            noise = torch.rand(len(images), self.mae.pos_embed.shape[1] - 1, device=images.device)
        return self.mae(images, noise)

    def weights(self) -> dict[str, Tensor]:
        return self.mae.state_dict()


class PlainViTDet(BackbonePeer):
    """Our ViT with `ReferenceAttention`: relative positions of all pairs of tokens."""

    title, form = 'plain form', 'N x N table'

    def code(self) -> str:
        """Describes the compared code."""
        return 'plain form of this package'

    def build(self, args: argparse.Namespace, size: int, weights: dict[str, Tensor]) -> nn.Module:
        """Builds the model."""
        model = build_reference_vitdet(args.arch, size)
        model.load_state_dict(weights)
        return model


class PlainLoader(LoaderPeer):
    """`ReferenceImages`: PIL, and torchvision's functions with our crops."""

    title, same_crops = 'plain form', True

    def code(self) -> str:
        """Describes the compared code."""
        return "plain form of this package, on torchvision's functions"

    def dataset(self, root: str, image_size: int) -> ReferenceImages:
        """The images of any source."""
        return ReferenceImages(open_source(root), (image_size, image_size))

    def load_batch(self, dataset: Any, draws: Sequence[Draw]) -> Tensor:
        """Loads the crops of these draws."""
        return default_collate([dataset[draw] for draw in draws])

    def settings(self) -> dict[str, object]:
        """Versions."""
        return {'decoder': f'Pillow {PIL.__version__}, torchvision {torchvision.__version__}',
                'batch': 'float32 planes, flipped and normalized'}
