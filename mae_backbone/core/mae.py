"""The Masked Autoencoder: images -> patches -> mask -> encoder -> decoder -> loss."""
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mae_backbone.core.decoder import MAEDecoder
from mae_backbone.core.masking import Mask, Masking, RandomMasking, noise_from_seeds
from mae_backbone.core.patches import image_statistics, patch_statistics, patchify, unpatchify
from mae_backbone.core.vit import ViT


class MAE(nn.Module):
    """Masked Autoencoder (He et al., CVPR 2022).

    Args:
        encoder: encoder of the visible patches. It is used after pretraining.
        decoder_width, decoder_depth, decoder_heads: size of the decoder, which is only used in pretraining.
        mask_ratio: fraction of the patches that are hidden, in (0, 1).
        masking: a `Masking` that draws the masks with its own ratio; None for RandomMasking(mask_ratio).
        norm_pix: the target. True: pixels normalized within their patch (paper section 4.1; all released weights).
            False: the pixels as they are. 'image': each channel normalized over its image (instance normalization,
            Ulyanov et al., 2016), for images whose absolute brightness carries no information (microscopes, radar).
        predict_ratio: fraction of the hidden patches that are decoded and used in the loss, in (0, 1], drawn for each
            image. A smaller fraction is faster: VideoMAE V2 (Wang et al., CVPR 2023) decodes half of them, CrossMAE
            (Fu et al., 2024) a fraction too. The paper predicts all. The choice is uniform, so that the loss is an
            unbiased estimate of the mean over all hidden patches, for the same predictions. Predictions change a
            little: the hidden patches attend to each other, and see fewer others.

    Raises:
        ValueError: the encoder has no class token, or an option is out of its range.
    """

    def __init__(self, encoder: ViT, *, decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16,
                 mask_ratio: float = 0.75, masking: Masking | None = None, norm_pix: bool | str = True,
                 predict_ratio: float = 1.0) -> None:
        super().__init__()
        if encoder.cls_token is None:
            raise ValueError('the encoder has class_token=False: MAE has a class token, leave it out')
        if norm_pix not in (True, False, 'image'):
            raise ValueError(f"norm_pix={norm_pix!r}, expected True (within each patch), False or 'image'")
        if norm_pix is True and encoder.patch_size**2 * encoder.in_channels == 1:
            raise ValueError('norm_pix=True with patches of a single number, which have no standard deviation: set '
                             "norm_pix=False or 'image', or a larger patch_size")
        if decoder_depth < 1:
            raise ValueError(f'decoder_depth={decoder_depth}, expected 1 or more blocks: the paper has 8')
        if not 0 < predict_ratio <= 1:
            raise ValueError(f'predict_ratio={predict_ratio}, expected a number in (0, 1]: the paper predicts all, 1')
        self.encoder = encoder
        self.decoder = MAEDecoder(encoder.arch.width, patch_pixels=encoder.patch_size**2 * encoder.in_channels,
                                  grid=encoder.grid, width=decoder_width, depth=decoder_depth, heads=decoder_heads,
                                  checkpointing=encoder.checkpointing)
        self.masking: Masking = RandomMasking(mask_ratio) if masking is None else masking
        self.norm_pix, self.predict_ratio = norm_pix, predict_ratio
        self.compiled: Callable[..., Tensor] | None = None  # set by `compile_parts`
        self.encoder_frozen = self.zero_gradients = False  # set by FreezeEncoderHook, see `encode`

    def forward(self, images: Tensor, mask: Mask | None = None, *, seeds: Tensor | None = None,
                weights: Tensor | None = None, states: list[Tensor] | None = None) -> tuple[Tensor, Tensor, Mask]:
        """images (B, C, H, W) -> loss (), pixels (B, L - K, P) predicted for the hidden patches, mask.

        With `predict_ratio` below 1, `ids_hidden` of the returned mask are only the patches that were predicted.

        Args:
            images: normalized pixels.
            mask: the mask to apply; None to draw one by `masking`.
            seeds: (B,) int64, per-image seed of the mask; None for torch's generator.
            weights: (B,), weight of each image in the loss, sum_i w_i * loss_i / B; None for the plain mean.
            states: a list that receives the tokens of the visible patches between the blocks, see `ViT.encode`.
        """
        grid = self.encoder.check(images)
        patches = patchify(images, self.encoder.patch_size)           # (B, L, P)
        mask = self.draw_mask(patches, grid, seeds) if mask is None else mask
        if self.predict_ratio < 1:
            mask = mask.first_hidden(math.ceil(self.predict_ratio * mask.ids_hidden.shape[1]))
        latent = self.encode(patches, mask, grid, states)             # (B, 1 + K, D)
        pixels = self.decoder(latent, mask, grid)                     # (B, L - K, P)
        return self.loss(patches, pixels, mask, weights), pixels, mask

    def predict(self, patches: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """patches (B, L, P) of a grid (h, w) -> predicted pixels (B, L - K, P) of the hidden patches."""
        return self.decoder(self.encode(patches, mask, grid), mask, grid)

    def encode(self, patches: Tensor, mask: Mask, grid: tuple[int, int], states: list[Tensor] | None = None) -> Tensor:
        """patches (B, L, P) of a grid (h, w) -> latent (B, 1 + K, D) of the visible ones.

        With `encoder_frozen` the encoder gets no gradients, and nothing is stored for its backward pass. With
        `zero_gradients` too, it gets gradients of zero: DistributedDataParallel waits for one of each parameter.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen):
            tokens = self.encoder.embed_visible(patches, mask, grid)  # (B, K, D)
            latent = self.encoder.encode(tokens, states=states)       # (B, 1 + K, D)
        if self.encoder_frozen and self.zero_gradients:
            latent = _WithZeroGradients.apply(latent, *(p for p in self.encoder.parameters() if p.requires_grad))
        return latent

    @property
    def mask_ratio(self) -> float:
        """Fraction of the patches that is hidden, in (0, 1); it may change during training."""
        return self.masking.ratio

    @mask_ratio.setter
    def mask_ratio(self, ratio: float) -> None:
        self.masking.ratio = ratio

    def draw_mask(self, patches: Tensor, grid: tuple[int, int], seeds: Tensor | None = None) -> Mask:
        """Draws the masks of patches (B, L, P) of a grid (h, w), from seeds (B,) or else from torch's generator."""
        B, L, _ = patches.shape
        noise = torch.rand(B, L, device=patches.device) if seeds is None else noise_from_seeds(seeds, L)
        return self.masking(noise, grid)

    def loss(self, patches: Tensor, pixels: Tensor, mask: Mask, weights: Tensor | None = None) -> Tensor:
        """Mean squared error () over the hidden patches.

        Args:
            patches: (B, L, P), all patches.
            pixels: (B, L - K, P), predicted for `mask.ids_hidden`.
            mask: mask of the images.
            weights: as in `forward`.
        """
        compute = MAE.masked_error if self.compiled is None or not torch.is_grad_enabled() else self.compiled
        return compute(self, patches, pixels, mask, weights)

    def masked_error(self, patches: Tensor, pixels: Tensor, mask: Mask, weights: Tensor | None) -> Tensor:
        """Computes `loss`. This method is compiled by torch.compile, see `compile_parts`."""
        mean, deviation = self.statistics(patches, mask)
        target = (mask.take_hidden(patches) - mean) / deviation
        error = (pixels.float() - target).square()  # float32, as autocast would lose small errors
        return error.mean() if weights is None else (error.mean(dim=(1, 2)) * weights).mean()

    def statistics(self, patches: Tensor, mask: Mask) -> tuple[Tensor | float, Tensor | float]:
        """Mean and standard deviation that normalize the target, broadcastable to (B, L - K, P)."""
        if self.norm_pix == 'image':
            return image_statistics(patches, self.encoder.in_channels)
        return patch_statistics(mask.take_hidden(patches)) if self.norm_pix else (0.0, 1.0)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, mask: Mask | None = None) -> tuple[Tensor, Tensor]:
        """images (B, C, H, W) -> masked images, zero in hidden patches; and images with the hidden patches predicted.

        With `norm_pix`, each predicted patch gets the true mean and standard deviation of its pixels, which the model
        does not predict. This makes the figure comparable to the original image.
        """
        grid, patch_size = self.encoder.check(images), self.encoder.patch_size
        patches = patchify(images, patch_size)
        mask = self.draw_mask(patches, grid) if mask is None else mask
        mean, deviation = self.statistics(patches, mask)
        pixels = self.predict(patches, mask, grid) * deviation + mean
        masked = patches.masked_fill(mask.hidden[..., None], 0)
        filled = mask.unshuffle(mask.take_visible(patches), pixels.to(patches.dtype))
        return unpatchify(masked, patch_size, grid), unpatchify(filled, patch_size, grid)


class _WithZeroGradients(torch.autograd.Function):
    """Identity of the first argument. The gradients of the other arguments are zero."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *parameters: Tensor) -> Tensor:
        ctx.parameters = parameters
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(torch.zeros_like(parameter) for parameter in ctx.parameters)
