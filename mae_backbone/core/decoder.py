"""Lightweight decoder of a MAE: latent of the visible patches -> pixels of the hidden patches."""
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from mae_backbone.core.checkpointing import checkpoint_every, run_block
from mae_backbone.core.masking import Mask
from mae_backbone.core.patches import sincos_positions
from mae_backbone.core.vit import Block, initialize


class MAEDecoder(nn.Module):
    """Transformer over visible and hidden patches. Its parameters have the names of the public MAE code.

    The order of its tokens is: class token, visible patches, hidden patches. The public code sorts them in image order.
    The results are equal, because attention does not depend on the order after positions are added. With the hidden
    patches at the end, the last block and the head compute only the hidden patches.

    Args:
        encoder_width: D of the latent.
        patch_pixels: P, the number of values that are predicted for each patch.
        grid: grid (h, w) in patches for which positions are stored. They are interpolated for other grids.
        width, depth, heads: size of the decoder; 512, 8, 16 in appendix A.1 of the MAE paper.
        checkpointing: as in `ViT`.
    """

    def __init__(self, encoder_width: int, *, patch_pixels: int, grid: tuple[int, int], width: int = 512,
                 depth: int = 8, heads: int = 16, checkpointing: bool | int = False) -> None:
        super().__init__()
        self.grid = grid
        self.decoder_embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(grid, width, class_token=True), requires_grad=False)
        self.decoder_blocks = nn.ModuleList([Block(width, heads=heads) for _ in range(depth)])
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, patch_pixels)
        self.set_checkpointing(checkpointing)
        initialize(self)

    def set_checkpointing(self, every: bool | int) -> None:
        """Sets the option `checkpointing`."""
        checkpoint_every(self.decoder_blocks, int(every))

    def forward(self, latent: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """latent (B, 1 + K, D) -> pixels (B, L - K, P) of the hidden patches, in the order of `mask.ids_hidden`."""
        # The visible patches of the last block are not used: it computes only the hidden ones.
        hidden = self.decode(latent, mask, grid, last=mask.ids_hidden.shape[1])
        return self.decoder_pred(self.decoder_norm(hidden))

    def predict_all(self, latent: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """latent (B, 1 + K, D) -> pixels (B, L, P) of all patches, visible ones included, in image order."""
        pixels = self.decoder_pred(self.decoder_norm(self.decode(latent, mask, grid)[:, 1:]))
        K = mask.ids_visible.shape[1]
        return mask.unshuffle(pixels[:, :K], pixels[:, K:])

    def decode(self, latent: Tensor, mask: Mask, grid: tuple[int, int], *, last: int | None = None) -> Tensor:
        """latent (B, 1 + K, D) -> (B, 1 + L, width of the decoder): class token, visible patches, hidden patches.

        With `last` = M only the last M of these are computed, (B, M, width).
        """
        class_position, positions = self.positions(grid).split([1, grid[0] * grid[1]], dim=1)
        visible = self.decoder_embed(latent)
        visible = visible + torch.cat([class_position.expand(len(latent), -1, -1), mask.take_visible(positions)], dim=1)
        hidden = self.mask_token + mask.take_hidden(positions)
        tokens = torch.cat([visible, hidden.to(visible.dtype)], dim=1)
        *first, final = self.decoder_blocks
        for block in first:
            tokens = run_block(block, tokens, training=self.training)
        return run_block(final, tokens, last=last, training=self.training)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings (1, 1 + h*w, width): the class token, then a grid of (h, w) patches."""
        if tuple(grid) == tuple(self.grid):
            return self.decoder_pos_embed
        return resample_abs_pos_embed(self.decoder_pos_embed, list(grid), list(self.grid), num_prefix_tokens=1,
                                      interpolation='bicubic', antialias=False)
