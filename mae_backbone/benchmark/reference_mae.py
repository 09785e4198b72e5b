"""Reference implementation of MAE: the paper written down on timm's blocks, without optimizations."""
from functools import partial
from typing import Any, cast

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mae_backbone.core.patches import patchify, sincos_positions
from mae_backbone.core.vit import Arch, initialize


class ReferenceMAE(nn.Module):
    """MAE that embeds every patch, restores the order of the tokens, and predicts every patch.

    The loss covers only the hidden patches. Attention computes its N x N matrix. Parameters are named as in the public
    MAE code.

    Args:
        arch: size of the encoder.
        image_size: (H, W) in pixels.
        patch_size, in_channels, decoder_width, decoder_depth, decoder_heads, mask_ratio: as in `MAE`.
    """

    def __init__(self, arch: Arch, *, image_size: tuple[int, int], patch_size: int = 16, in_channels: int = 3,
                 decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75) -> None:
        super().__init__()
        width, depth, heads = arch
        self.patch_size, self.mask_ratio = patch_size, mask_ratio
        self.patch_embed = PatchEmbed(image_size, patch_size, in_channels, width)
        grid = self.patch_embed.grid_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(sincos_positions(grid, width, class_token=True), requires_grad=False)
        self.blocks = nn.ModuleList([reference_block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(grid, decoder_width, class_token=True),
                                              requires_grad=False)
        self.decoder_blocks = nn.ModuleList([reference_block(decoder_width, decoder_heads)
                                             for _ in range(decoder_depth)])
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_width, patch_size**2 * in_channels)
        initialize(self)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """images (B, C, H, W), noise (B, L) -> loss (). Patches with the lowest noise stay visible."""
        latent, hidden, restore = self.encode(images, noise)
        return self.loss(images, self.decode(latent, restore), hidden)

    def encode(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images (B, C, H, W), noise (B, L) -> latent (B, 1 + K, D), hidden (B, L), restore (B, L)."""
        tokens = self.patch_embed(images) + self.pos_embed[:, 1:]
        B, L, D = tokens.shape
        K = int(L * (1 - self.mask_ratio))
        shuffle = torch.argsort(noise, dim=1)
        restore = torch.argsort(shuffle, dim=1)
        tokens = torch.gather(tokens, 1, shuffle[:, :K, None].repeat(1, 1, D))
        hidden = torch.ones(B, L, device=images.device)
        hidden[:, :K] = 0
        hidden = torch.gather(hidden, 1, restore)
        class_token = self.cls_token + self.pos_embed[:, :1]
        tokens = torch.cat([class_token.expand(B, -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens), hidden, restore

    def decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        """latent (B, 1 + K, D), restore (B, L) -> pixels (B, L, P) of all patches."""
        tokens = self.decoder_embed(latent)
        B, N, D = tokens.shape
        L = restore.shape[1]
        mask_tokens = self.mask_token.repeat(B, L + 1 - N, 1)
        patches = torch.cat([tokens[:, 1:], mask_tokens.to(tokens.dtype)], dim=1)
        patches = torch.gather(patches, 1, restore[:, :, None].repeat(1, 1, D))
        tokens = torch.cat([tokens[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_pred(self.decoder_norm(tokens))[:, 1:]

    def loss(self, images: Tensor, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error () over the hidden patches, normalized within each patch."""
        target = patchify(images, self.patch_size)
        mean = target.mean(dim=-1, keepdim=True)
        variance = target.var(dim=-1, keepdim=True)
        target = (target - mean) / (variance + 1e-6) ** 0.5
        error = ((pixels - target) ** 2).mean(dim=-1)
        return (error * hidden).sum() / hidden.sum()


def reference_block(width: int, heads: int) -> Block:
    """timm's block, with attention in separate steps (`fused_attn` off)."""
    norm_layer = cast(type[nn.Module], partial(nn.LayerNorm, eps=1e-6))  # as timm itself passes it
    block = Block(width, heads, qkv_bias=True, norm_layer=norm_layer)
    cast(Any, block.attn).fused_attn = False
    return block
