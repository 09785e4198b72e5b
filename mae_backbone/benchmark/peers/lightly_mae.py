"""MAE of lightly, put together as in its example of MAE on timm's ViT."""
import argparse
from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from mae_backbone.benchmark.peers.peer import MissingPeerError, PeerMAE, StepPeer, square
from mae_backbone.core.vit import ARCHS


class LightlyMAE(StepPeer):
    """`MaskedVisionTransformerTIMM` and `MaskedVisionTransformerDecoderTIMM`, with targets normalized per patch."""

    title = package = 'lightly'

    def load(self) -> None:
        """Imports lightly. Raises MissingPeerError for versions below 1.6, too."""
        super().load()
        from lightly.models import modules
        if not hasattr(modules, 'MaskedVisionTransformerDecoderTIMM'):
            raise MissingPeerError(f'--against lightly needs lightly 1.6 or later, {self.code()} is installed: '
                                   'python -m pip install --upgrade lightly')

    def build(self, args: argparse.Namespace) -> PeerMAE:
        """Builds the model. Raises ValueError if the images are not square."""
        from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
        arch, (width, depth, heads) = ARCHS[args.arch], args.decoder
        vit = VisionTransformer(
            img_size=square(args, self.title), patch_size=args.patch_size, embed_dim=arch.width, depth=arch.depth,
            num_heads=arch.heads, num_classes=0, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        encoder = MaskedVisionTransformerTIMM(vit=vit)
        cast(nn.Parameter, vit.pos_embed).requires_grad_(False)  # the sin-cos table, as in the paper
        decoder = MaskedVisionTransformerDecoderTIMM(num_patches=vit.patch_embed.num_patches, embed_dim=width,
                                                     depth=depth, num_heads=heads)
        return _Model(encoder, decoder, width, args.patch_size, args.mask_ratio)


class _Model(PeerMAE):
    def __init__(self, encoder: Any, decoder: Any, width: int, patch_size: int, mask_ratio: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.patch_size, self.mask_ratio = encoder, decoder, patch_size, mask_ratio
        self.embed = nn.Linear(encoder.vit.embed_dim, width)
        self.pred = nn.Linear(width, patch_size**2 * 3)

    @property
    def decoder_embed(self) -> nn.Module:
        return self.embed

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        from lightly.models import utils
        size = len(images), self.encoder.sequence_length
        if noise is None:
            kept, masked = utils.random_token_mask(size=size, mask_ratio=self.mask_ratio, device=images.device)
        else:  # token 0 is the class token, which stays
            shuffle = 1 + noise.argsort(dim=1)
            K = int(noise.shape[1] * (1 - self.mask_ratio))
            kept, masked = torch.cat([torch.zeros_like(shuffle[:, :1]), shuffle[:, :K]], dim=1), shuffle[:, K:]
        latent = self.embed(self.encoder.encode(images=images, idx_keep=kept))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, kept, latent.type_as(tokens))
        pixels = self.pred(utils.get_at_index(self.decoder(tokens), masked))
        target = utils.get_at_index(utils.patchify(images, self.patch_size), masked - 1)
        return nn.functional.mse_loss(pixels, utils.normalize_mean_var(target))

    def weights(self) -> dict[str, Tensor]:
        renamed = {'embed.': 'decoder_embed.', 'pred.': 'decoder_pred.', 'decoder.blocks.': 'decoder_blocks.',
                   'decoder.norm.': 'decoder_norm.', 'decoder.pos_embed': 'decoder_pos_embed',
                   'decoder.mask_token': 'mask_token', 'encoder.vit.': ''}
        return {ours + name.removeprefix(theirs): tensor for name, tensor in self.state_dict().items()
                for theirs, ours in renamed.items() if name.startswith(theirs)}
