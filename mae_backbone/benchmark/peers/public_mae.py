"""The public MAE code, facebookresearch/mae, from a checkout."""
import argparse
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from timm.models import vision_transformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mae_backbone.benchmark.peers.peer import MissingPeerError, PeerMAE, StepPeer, commit_text, importing_from, square
from mae_backbone.core.vit import ARCHS


class PublicMAE(StepPeer):
    """`MaskedAutoencoderViT` of facebookresearch/mae on the installed timm. No file of the checkout is changed.

    The code was written for timm 0.3.2 and NumPy below 1.24. Two names are replaced while it is imported and built:
    `Block` of timm takes `qk_scale`, which later versions do not have (it is None, the scale that they use); and
    `numpy.float` is `float`.
    """

    title = 'facebookresearch/mae'

    def load(self) -> None:
        """Imports `models_mae`. Raises MissingPeerError if the checkout does not have it."""
        if self.root is None or not (self.root / 'models_mae.py').is_file():
            raise MissingPeerError('--against mae needs --peer-root with a checkout of facebookresearch/mae, which has '
                                   f'models_mae.py (given: {self.root or "none"}): git clone '
                                   'https://github.com/facebookresearch/mae')
        self.module()

    def module(self) -> ModuleType:
        """The module `models_mae`."""
        assert self.root is not None
        with importing_from(self.root, forget=True), mock.patch.object(vision_transformer, 'Block', block):
            import models_mae
        return models_mae

    def code(self) -> str:
        """Commit, and the version of timm."""
        assert self.root is not None
        return f'{self.title} {commit_text(self.root)}, timm {version("timm")}'

    def build(self, args: argparse.Namespace) -> PeerMAE:
        """Builds the model. Raises ValueError if the images are not square."""
        arch, (width, depth, heads) = ARCHS[args.arch], args.decoder
        with mock.patch.object(np, 'float', float, create=True):
            return _Model(self.module().MaskedAutoencoderViT(
                img_size=square(args, self.title), patch_size=args.patch_size, embed_dim=arch.width, depth=arch.depth,
                num_heads=arch.heads, decoder_embed_dim=width, decoder_depth=depth, decoder_num_heads=heads,
                mlp_ratio=4, norm_layer=partial(nn.LayerNorm, eps=1e-6), norm_pix_loss=True), args.mask_ratio)


def block(*args: Any, qk_scale: None = None, **options: Any) -> nn.Module:
    """timm's block, with an argument that it does not have any more."""
    return Block(*args, **options)


class _Model(PeerMAE):
    def __init__(self, mae: Any, mask_ratio: float) -> None:
        super().__init__()
        self.mae, self.mask_ratio = mae, mask_ratio

    @property
    def decoder_embed(self) -> nn.Module:
        return self.mae.decoder_embed

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            return self.mae(images, self.mask_ratio)[0]
        with mock.patch.object(torch, 'rand', return_value=noise):  # the code draws its noise by torch.rand
            return self.mae(images, self.mask_ratio)[0]

    def weights(self) -> dict[str, Tensor]:
        return self.mae.state_dict()
