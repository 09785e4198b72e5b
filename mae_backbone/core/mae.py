"""The Masked Autoencoder: images -> patches -> mask -> encoder -> decoder -> loss."""
import math

import torch
from torch import Tensor, nn

from mae_backbone.core.decoder import MAEDecoder
from mae_backbone.core.masking import Mask, Masking, RandomMasking, noise_from_seeds
from mae_backbone.core.patches import image_statistics, patch_statistics, patchify, unpatchify
from mae_backbone.core.vit import ViT


class MAE(nn.Module):
    """Masked Autoencoder (He et al., CVPR 2022).

    Args:
        encoder: sees the visible patches; kept after pretraining.
        decoder_width, decoder_depth, decoder_heads: size of the decoder, thrown away after pretraining.
        mask_ratio: share of the patches that is hidden, in (0, 1).
        masking: chooses the patches to hide, with its own ratio: any `Masking`; None for RandomMasking(mask_ratio).
        norm_pix: what is predicted. True: pixels normalized within their patch (paper section 4.1; all released
            weights); False: the pixels that come in; 'image': each channel normalized over its image (instance
            normalization, Ulyanov et al., 2016), for images whose brightness says nothing (microscopes, radar).
        predict_share: share of the hidden patches that the decoder gets and the loss counts, drawn for each image, in
            (0, 1]. Less is faster: VideoMAE V2 (Wang et al., CVPR 2023) gives the decoder half of them, CrossMAE (Fu et
            al., 2024) a part too. The paper predicts all.

    Raises:
        ValueError: the encoder has no class token, or an option is out of its range.
    """

    def __init__(self, encoder: ViT, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, masking: Masking | None = None, norm_pix: bool | str = True,
                 predict_share: float = 1.0) -> None:
        super().__init__()
        if encoder.cls_token is None:
            raise ValueError('the encoder has class_token=False: MAE has a class token, leave it out')
        if norm_pix not in (True, False, 'image'):
            raise ValueError(f"norm_pix={norm_pix!r}, wanted True (within each patch), False or 'image'")
        if not 0 < predict_share <= 1:
            raise ValueError(f'predict_share={predict_share} must be in (0, 1], the paper predicts all: 1')
        self.encoder = encoder
        self.decoder = MAEDecoder(encoder.arch.width, patch_pixels=encoder.patch_size**2 * encoder.in_channels,
                                  grid=encoder.grid, width=decoder_width, depth=decoder_depth, heads=decoder_heads)
        self.masking = RandomMasking(mask_ratio) if masking is None else masking
        self.norm_pix, self.predict_share = norm_pix, predict_share

    def forward(self, images: Tensor, mask: Mask | None = None, *, seeds: Tensor | None = None,
                weights: Tensor | None = None) -> tuple[Tensor, Tensor, Mask]:
        """images (B, C, H, W) -> loss (), pixels (B, L - K, P) predicted for the hidden patches, mask.

        With a `predict_share` the hidden patches of the mask that is returned, `mask.drop`, are those predicted.

        Args:
            images: normalized pixels.
            mask: what to hide; None: drawn by `masking`.
            seeds: (B,) int64, the chance of each image's mask; None: from torch's generator.
            weights: (B,) of each image in the loss, sum_i w_i * loss_i / B; None: all 1, the plain mean.
        """
        grid = self.encoder.check(images)
        patches = patchify(images, self.encoder.patch_size)           # (B, L, P)
        mask = self.draw_mask(patches, grid, seeds) if mask is None else mask
        if self.predict_share < 1:
            mask = mask.part(math.ceil(self.predict_share * mask.drop.shape[1]))
        pixels = self.predict(patches, mask, grid)                    # (B, L - K, P)
        return self.loss(patches, pixels, mask, weights), pixels, mask

    def predict(self, patches: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """patches (B, L, P) of a grid (h, w) -> pixels (B, L - K, P) of the hidden ones, of which nothing is seen."""
        tokens = self.encoder.embed_visible(patches, mask, grid)      # (B, K, D)
        latent = self.encoder.encode(tokens)                          # (B, 1 + K, D)
        return self.decoder(latent, mask, grid)

    @property
    def mask_ratio(self) -> float:
        """Share of the patches that is hidden, in (0, 1); it may change while a model is trained."""
        return self.masking.ratio

    @mask_ratio.setter
    def mask_ratio(self, ratio: float) -> None:
        self.masking.ratio = ratio

    def draw_mask(self, patches: Tensor, grid: tuple[int, int], seeds: Tensor | None = None) -> Mask:
        """patches (B, L, P) of a grid (h, w), seeds (B,) or None for torch's generator -> what is hidden of each."""
        B, L, _ = patches.shape
        noise = torch.rand(B, L, device=patches.device) if seeds is None else noise_from_seeds(seeds, L)
        return self.masking(noise, grid)

    def loss(self, patches: Tensor, pixels: Tensor, mask: Mask, weights: Tensor | None = None) -> Tensor:
        """Mean squared error () over the hidden patches alone.

        patches (B, L, P) of all, pixels (B, L - K, P) predicted for those of `mask.drop`, weights (B,) of the images.
        """
        mean, deviation = self.statistics(patches, mask)
        error = (pixels.float() - (mask.concealed(patches) - mean) / deviation).square()
        return error.mean() if weights is None else (error.mean(dim=(1, 2)) * weights).mean()

    def statistics(self, patches: Tensor, mask: Mask) -> tuple[Tensor | float, Tensor | float]:
        """Mean and deviation that make the target of the hidden patches, to go with (B, L - K, P)."""
        if self.norm_pix == 'image':
            return image_statistics(patches, self.encoder.in_channels)
        return patch_statistics(mask.concealed(patches)) if self.norm_pix else (0.0, 1.0)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, mask: Mask | None = None) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W) -> masked images, zero where hidden, and images whose hidden patches are predicted.

        With `norm_pix` each predicted patch gets the mean and deviation of the true one back, which a viewer needs and
        the model never sees.
        """
        grid, patch_size = self.encoder.check(images), self.encoder.patch_size
        patches = patchify(images, patch_size)
        mask = self.draw_mask(patches, grid) if mask is None else mask
        mean, deviation = self.statistics(patches, mask)
        pixels = self.predict(patches, mask, grid) * deviation + mean
        masked = patches.masked_fill(mask.hidden[..., None], 0)
        filled = mask.unshuffle(mask.visible(patches), pixels.to(patches.dtype))
        return unpatchify(masked, patch_size, grid), unpatchify(filled, patch_size, grid)
