"""The Masked Autoencoder: images -> patches -> mask -> encoder -> decoder -> loss."""
import torch
from torch import Tensor, nn

from mae_backbone.decoder import MAEDecoder
from mae_backbone.masking import Mask, random_mask
from mae_backbone.patches import denormalize_patches, normalize_patches, patchify, unpatchify
from mae_backbone.vit import ViT


class MAE(nn.Module):
    """Masked Autoencoder (He et al., CVPR 2022).

    Args:
        encoder: sees the visible patches; kept after pretraining.
        decoder_width, decoder_depth, decoder_heads: size of the decoder, thrown away after pretraining.
        mask_ratio: share of the patches that is hidden, in (0, 1).
        norm_pix: predict pixels normalised within their patch (paper section 4.1; all released weights).

    Raises:
        ValueError: the encoder has no class token.
    """

    def __init__(self, encoder: ViT, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, norm_pix: bool = True) -> None:
        super().__init__()
        if encoder.cls_token is None:
            raise ValueError('the encoder has class_token=False: MAE has a class token, leave it out')
        self.encoder = encoder
        self.decoder = MAEDecoder(encoder.arch.width, patch_pixels=encoder.patch_size**2 * encoder.in_channels,
                                  grid=encoder.grid, width=decoder_width, depth=decoder_depth, heads=decoder_heads)
        self.mask_ratio = mask_ratio
        self.norm_pix = norm_pix

    def forward(self, images: Tensor, mask: Mask | None = None) -> tuple[Tensor, Tensor, Mask]:
        """images (B, C, H, W) -> loss (), pixels (B, L - K, P) predicted for the hidden patches, mask."""
        grid = self.encoder.check(images)
        patches = patchify(images, self.encoder.patch_size)           # (B, L, P)
        mask = random_mask(patches, self.mask_ratio) if mask is None else mask
        tokens = self.encoder.embed_visible(patches, mask, grid)      # (B, K, D)
        latent = self.encoder.encode(tokens)                          # (B, 1 + K, D)
        pixels = self.decoder(latent, mask, grid)                     # (B, L - K, P)
        return self.loss(patches, pixels, mask), pixels, mask

    def loss(self, patches: Tensor, pixels: Tensor, mask: Mask) -> Tensor:
        """Mean squared error () over the hidden patches alone; patches (B, L, P), pixels (B, L - K, P)."""
        target = mask.concealed(patches)
        if self.norm_pix:
            target = normalize_patches(target)
        return (pixels.float() - target).square().mean()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, mask: Mask | None = None) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W) -> masked images, zero where hidden, and images whose hidden patches are predicted.

        With `norm_pix` each predicted patch gets the mean and deviation of the true one back, which a viewer needs and
        the model never sees.
        """
        _, pixels, mask = self(images, mask)
        grid, patch_size = self.encoder.check(images), self.encoder.patch_size
        patches = patchify(images, patch_size)
        if self.norm_pix:
            pixels = denormalize_patches(pixels, mask.concealed(patches))
        masked = patches.masked_fill(mask.hidden[..., None], 0)
        filled = mask.unshuffle(mask.visible(patches), pixels.to(patches.dtype))
        return unpatchify(masked, patch_size, grid), unpatchify(filled, patch_size, grid)
