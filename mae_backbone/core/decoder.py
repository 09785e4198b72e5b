"""The light decoder of MAE: from the latent of the visible patches to the pixels of the hidden ones."""
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from mae_backbone.core.masking import Mask
from mae_backbone.core.patches import sincos_positions
from mae_backbone.core.vit import Block, initialize


class MAEDecoder(nn.Module):
    """A Transformer over visible and hidden patches; parameter names are those of the public MAE code.

    It sees the visible patches first and the hidden ones after them: positions are added to each, attention does not
    mind the order, and so nothing is put back in the order of the image, nor predicted where it is not wanted.

    Args:
        encoder_width: D of the latent.
        patch_pixels: P, what is predicted for each patch.
        grid: (h, w) patches for which positions are stored; others are interpolated.
        width, depth, heads: size of the decoder; 512, 8, 16 in the paper's appendix A.1.
    """

    def __init__(self, encoder_width: int, *, patch_pixels: int, grid: tuple[int, int], width: int = 512,
                 depth: int = 8, heads: int = 16) -> None:
        super().__init__()
        self.grid = grid
        self.decoder_embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(grid, width, class_token=True), requires_grad=False)
        self.decoder_blocks = nn.ModuleList([Block(width, heads=heads) for _ in range(depth)])
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, patch_pixels)
        initialize(self)

    def forward(self, latent: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """latent (B, 1 + K, D) -> pixels (B, L - K, P) of the hidden patches, in the order of `mask.drop`."""
        # Nobody looks at what the last block makes of the visible patches: hidden ones alone ask and go on there.
        hidden = self.decode(latent, mask, grid, last=mask.drop.shape[1])
        return self.decoder_pred(self.decoder_norm(hidden))

    def predict_all(self, latent: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """latent (B, 1 + K, D) -> pixels (B, L, P) of all patches, visible ones too, in the order of the image."""
        pixels = self.decoder_pred(self.decoder_norm(self.decode(latent, mask, grid)[:, 1:]))
        K = mask.keep.shape[1]
        return mask.unshuffle(pixels[:, :K], pixels[:, K:])

    def decode(self, latent: Tensor, mask: Mask, grid: tuple[int, int], *, last: int | None = None) -> Tensor:
        """latent (B, 1 + K, D) -> (B, 1 + L, width of the decoder): class token, visible patches, hidden patches.

        With `last` = M the outcome (B, M, width) is that of the last M tokens, the same as of all and cheaper.
        """
        class_place, places = self.positions(grid).split([1, grid[0] * grid[1]], dim=1)
        known = self.decoder_embed(latent)
        known = known + torch.cat([class_place.expand(len(latent), -1, -1), mask.visible(places)], dim=1)
        hidden = self.mask_token + mask.concealed(places)
        tokens = torch.cat([known, hidden.to(known.dtype)], dim=1)
        *first, final = self.decoder_blocks
        for block in first:
            tokens = block(tokens)
        return final(tokens, last=last)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Positions (1, 1 + h*w, width) for a grid of (h, w) patches, the class token's first."""
        if tuple(grid) == tuple(self.grid):
            return self.decoder_pos_embed
        return resample_abs_pos_embed(self.decoder_pos_embed, list(grid), list(self.grid), num_prefix_tokens=1,
                                      interpolation='bicubic', antialias=False)
