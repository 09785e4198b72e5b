"""Vision Transformer, the encoder of a MAE and the backbone of classifiers, detectors and segmenters."""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import DropPath, LayerNorm2d, Mlp, PatchEmbed, resample_abs_pos_embed
from torch import Tensor, nn

from mae_backbone.core.attention import Attention
from mae_backbone.core.checkpointing import checkpoint_every, run_block
from mae_backbone.core.exporting import is_static
from mae_backbone.core.masking import Mask
from mae_backbone.core.patches import grid_size, sincos_positions
from mae_backbone.core.recompute import recompute_linear_input
from mae_backbone.core.relative_bias import RelativeBias
from mae_backbone.core.windows import Windows


class Arch(NamedTuple):
    """Width, number of blocks and number of attention heads of a Transformer."""

    width: int
    depth: int
    heads: int


# MAE paper, appendix A.1 (base, large, huge); DeiT, table 1 (tiny, small).
ARCHS = {
    'tiny': Arch(192, 12, 3),
    'small': Arch(384, 12, 6),
    'base': Arch(768, 12, 12),
    'large': Arch(1024, 24, 16),
    'huge': Arch(1280, 32, 16),
}


class ViT(nn.Module):
    """Plain Vision Transformer. Its parameters have the names of the public MAE code, timm and detectron2.

    Args:
        arch: name in `ARCHS`, or dict(width=, depth=, heads=).
        image_size: (H, W) in pixels, or one number for both, for which the model is built. Images may have other sizes:
            absolute positions are interpolated bicubically, relative positions linearly, as in detectron2.
        pretrain_image_size: image size of the pretraining, for which absolute positions are stored; None: `image_size`.
        patch_size: side of a patch in pixels.
        in_channels: C of the images.
        class_token: prepend a class token.
        final_norm: apply a LayerNorm after the last block (as in MAE, but not in ViTDet).
        fixed_positions: do not train the sin-cos positions (MAE pretraining).
        drop_path_rate: probability of dropping a branch of the last block, in [0, 1). It grows linearly from 0 at the
            first block, and drops whole images.
        window_size: side in patches of the windows to which attention is restricted; 0 for no windows.
        global_blocks: indices of the blocks without windows, which attend to all patches.
        shifted_windows: shift the windows of every second block by half their side, as in Swin, so that information
            passes between windows without global blocks.
        conv_blocks: indices of the blocks that end with a residual convolution, which also passes information between
            windows.
        relative_positions: add detectron2's decomposed relative positions in every block.
        relative_bias: add the relative positions of BEiT, a number for each distance and head: 'block' has a table in
            every block (MAE's segmentation), 'shared' one for all blocks. None for none. They allow a class token.
        checkpointing: compute blocks again in the backward pass instead of storing their activations: True or 1 for all
            blocks, k for every k-th, False or 0 for none. The results are the same.
        channels_last: on CUDA, return feature maps in the memory format channels_last, which is the order of the
            tokens. This avoids a copy, and is the fastest format for convolutions on tensor cores. Heads must not use
            `view` on the maps.

    Raises:
        ValueError: the arch is unknown, or options exclude each other.
    """

    def __init__(self, arch: str | dict = 'base', *, image_size: int | Sequence[int] = 224,
                 pretrain_image_size: int | Sequence[int] | None = None, patch_size: int = 16, in_channels: int = 3,
                 class_token: bool = True, final_norm: bool = True, fixed_positions: bool = False,
                 drop_path_rate: float = 0.0, window_size: int = 0, global_blocks: Sequence[int] = (),
                 shifted_windows: bool = False, conv_blocks: Sequence[int] = (), relative_positions: bool = False,
                 relative_bias: str | None = None, checkpointing: bool | int = False,
                 channels_last: bool = False) -> None:
        super().__init__()
        self.arch = width, depth, heads = find_arch(arch)
        self.patch_size, self.in_channels, self.channels_last = patch_size, in_channels, channels_last
        self.image_size = _pair(image_size)
        grid = grid_size(_pair(image_size), patch_size)
        self.grid = grid_size(_pair(pretrain_image_size or image_size), patch_size)  # that positions are stored for
        if class_token and (window_size or relative_positions or conv_blocks):
            raise ValueError('windows, relative positions and convolutions are defined between patches: '
                             'set class_token=False')
        if relative_bias not in (None, 'block', 'shared') or (relative_bias and relative_positions) or (
                relative_bias == 'shared' and window_size):
            raise ValueError(f"relative_bias={relative_bias!r}: expected 'block', 'shared' or None, not together with "
                             "relative_positions=True, and not 'shared' with windows")
        if not 0 <= drop_path_rate < 1 or window_size < 0:
            raise ValueError(f'drop_path_rate={drop_path_rate} and window_size={window_size}: expected a rate in '
                             '[0, 1), and a window of 0 (none) or more patches')
        if shifted_windows and window_size < 2:
            raise ValueError(f'shifted_windows=True with window_size={window_size}: set window_size to 2 or more')
        for name, indices in (('global_blocks', global_blocks), ('conv_blocks', conv_blocks)):
            if any(not 0 <= i < depth for i in indices):
                raise ValueError(f'{name}={tuple(indices)}, the {depth} blocks are numbered from 0')

        self.patch_embed = PatchEmbed(None, patch_size, in_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        # The first row belongs to the class token. Checkpoints of detectron2 have it even without a class token.
        self.pos_embed = nn.Parameter(sincos_positions(self.grid, width, class_token=True),
                                      requires_grad=not fixed_positions)
        rates = torch.linspace(0, drop_path_rate, depth, device='cpu').tolist()
        windows = [0 if i in global_blocks else window_size for i in range(depth)]
        self.blocks = nn.ModuleList([
            Block(width, heads=heads, drop_path=rate, window_size=window,
                  shift=window // 2 if shifted_windows and i % 2 else 0, convolve=i in conv_blocks,
                  table_size=((window, window) if window else grid) if relative_positions else None,
                  bias_size=((window, window) if window else grid) if relative_bias == 'block' else None)
            for i, (rate, window) in enumerate(zip(rates, windows, strict=True))])
        self.norm = nn.LayerNorm(width, eps=1e-6) if final_norm else nn.Identity()
        self.rel_pos_bias = RelativeBias(grid, heads) if relative_bias == 'shared' else None
        self.relative_bias = relative_bias
        self.set_checkpointing(checkpointing)
        initialize(self)

    def set_checkpointing(self, every: bool | int) -> None:
        """Sets the option `checkpointing`. It may be changed during a training."""
        self.checkpointing = int(every)
        checkpoint_every(self.blocks, self.checkpointing)

    def embed(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) -> tokens (B, L, D) with their positions.

        Raises:
            ValueError: a side of the images is not a multiple of the patch size, or the channels do not fit.
        """
        grid = self.check(images)
        return self.patch_embed(images) + self.positions(grid)[:, 1:]

    def embed_visible(self, patches: Tensor, mask: Mask, grid: tuple[int, int]) -> Tensor:
        """patches (B, L, P) of `patchify` -> tokens (B, K, D) of the visible ones, with their positions."""
        # The projection is a convolution (D, C, p, p); patchify orders the pixels of a patch as (p, p, C).
        weight = self.patch_embed.proj.weight.permute(0, 2, 3, 1).flatten(1)
        tokens = F.linear(mask.take_visible(patches), weight, self.patch_embed.proj.bias)
        return tokens + mask.take_visible(self.positions(grid)[:, 1:])

    def encode(self, tokens: Tensor, *, states: list[Tensor] | None = None) -> Tensor:
        """tokens (B, N, D) of any patches, with positions -> (B, 1 + N, D) after all blocks, class token first.

        Args:
            tokens: tokens of the patches.
            states: a list that receives the tokens (B, 1 + N, D) before each block and after the last one, which are
                not normed.

        Raises:
            ValueError: the model has `relative_bias`, which needs a full grid of patches.
        """
        tokens = self._start(tokens)
        for block in self.blocks:
            if states is not None:
                states.append(tokens)
            tokens = run_block(block, tokens, training=self.training)
        if states is not None:
            states.append(tokens)
        return self.norm(tokens)

    def encode_until(self, tokens: Tensor, blocks: int) -> Tensor:
        """tokens (B, N, D) -> (B, 1 + N, D) after the first `blocks` blocks, as in the `states` of `encode`."""
        tokens = self._start(tokens)
        for block in self.blocks[:blocks]:
            tokens = run_block(block, tokens, training=self.training)
        return tokens

    def _start(self, tokens: Tensor) -> Tensor:
        """tokens (B, N, D) of single patches -> (B, 1 + N, D), the input of the first block."""
        if self.relative_bias:
            raise ValueError(f'relative_bias={self.relative_bias!r} needs all patches of a grid, but the encoder gets '
                             'single patches here: pretrain and classify without it, use it for feature maps')
        return self._prepend_class_token(tokens)

    def feature_maps(self, images: Tensor, out_indices: Sequence[int] = (-1,)) -> list[Tensor]:
        """images (B, C, H, W) -> maps (B, D, h, w), one for each block in `out_indices`, normed if `final_norm`."""
        grid = self.check(images)
        wanted = {i % len(self.blocks) for i in out_indices}
        (tokens, bias), maps = self.start(images), {}
        for i, block in enumerate(self.blocks):
            tokens = run_block(block, tokens, grid, bias=bias, training=self.training)
            if i in wanted:
                maps[i] = self._to_map(self.norm(tokens), grid)
        return [maps[i % len(self.blocks)] for i in out_indices]

    def start(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """images (B, C, H, W) -> tokens (B, N, D) of the first block, and the bias (heads, N, N) that blocks share."""
        tokens = self._prepend_class_token(self.embed(images))
        return tokens, None if self.rel_pos_bias is None else self.rel_pos_bias(self.check(images), tokens.shape[1])

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings (1, 1 + h*w, D): the class token, then a grid of (h, w) patches."""
        if is_static(grid) and tuple(grid) == self.grid:
            return self.pos_embed
        return resample_abs_pos_embed(self.pos_embed, list(grid), list(self.grid), num_prefix_tokens=1,
                                      interpolation='bicubic', antialias=False)

    def check(self, images: Tensor) -> tuple[int, int]:
        """images (B, C, H, W) -> their grid (h, w). Raises ValueError if the images do not fit the model."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f'images are {tuple(images.shape)}, expected (B, {self.in_channels}, H, W): '
                             'set in_channels of the model to the channels of your images')
        return grid_size((images.shape[2], images.shape[3]), self.patch_size)

    def _prepend_class_token(self, tokens: Tensor) -> Tensor:
        """tokens (B, N, D) -> (B, 1 + N, D); unchanged if the model has no class token."""
        if self.cls_token is None:
            return tokens
        first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        return torch.cat([first, tokens], dim=1)

    def _to_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """tokens (B, L or 1 + L, D) -> (B, D, h, w)."""
        maps = tokens[:, self.cls_token is not None:].transpose(1, 2).unflatten(2, grid)
        return maps if self.channels_last and prefers_channels_last(maps) else maps.contiguous()


class Block(nn.Module):
    """Pre-norm Transformer block.

    Args:
        width: D.
        heads: number of heads of attention.
        drop_path: probability of dropping each of the two branches, in [0, 1).
        window_size: side in patches of the windows to which attention is restricted; 0 for no windows.
        shift: patches by which the windows are shifted to the lower right, in [0, window_size).
        convolve: end in a residual convolution.
        table_size, bias_size, recompute: as in `Attention`.
    """

    def __init__(self, width: int, *, heads: int, drop_path: float = 0.0, window_size: int = 0, shift: int = 0,
                 convolve: bool = False, table_size: tuple[int, int] | None = None,
                 bias_size: tuple[int, int] | None = None, recompute: bool = True) -> None:
        super().__init__()
        self.window_size, self.shift, self.recompute = window_size, shift, recompute
        self.compiled: Callable[..., Tensor] | None = None  # set by `compile_parts`
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads=heads, table_size=table_size, bias_size=bias_size, recompute=recompute)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath(drop_path)
        if convolve:
            self.residual = ConvBottleneck(width)

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None, *, last: int | None = None,
                bias: Tensor | None = None) -> Tensor:
        """tokens (B, N, D) -> (B, N, D).

        Args:
            tokens: input of the block.
            grid: (h, w), needed for windows, relative positions and convolutions.
            last: M; compute only the last M tokens, (B, M, D), in a block without any of these.
            bias: (heads, N, N), added to the scores of attention in a block without windows.
        """
        kept = draw_kept(self.drop_path, tokens), draw_kept(self.drop_path, tokens)
        compute = Block.compute if self.compiled is None or not torch.is_grad_enabled() else self.compiled
        return compute(self, tokens, grid, last, bias, kept)

    def compute(self, tokens: Tensor, grid: tuple[int, int] | None, last: int | None, bias: Tensor | None,
                kept: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """Computes the block with given random numbers. This method is compiled by torch.compile (`compile_parts`).

        Args:
            tokens, grid, last, bias: as in `forward`.
            kept: result of `draw_kept` for each branch.
        """
        kept_attention, kept_mlp = kept
        if last is not None:
            tokens = tokens[:, -last:] + _keep(self.attn(tokens, before=self.norm1, last=last), kept_attention)
            return tokens + _keep(self.expand(tokens), kept_mlp)
        tokens = tokens + _keep(self.attend(tokens, grid, bias), kept_attention)
        tokens = tokens + _keep(self.expand(tokens), kept_mlp)
        return self.residual(tokens, grid) if hasattr(self, 'residual') else tokens

    def attend(self, tokens: Tensor, grid: tuple[int, int] | None, bias: Tensor | None) -> Tensor:
        """tokens (B, N, D) -> (B, N, D): norm and attention, in windows if the block has them."""
        windows = None
        if self.window_size:
            if grid is None:
                raise ValueError('a block with windows needs the grid of the patches')
            windows = Windows(grid, self.window_size, self.shift)
        return self.attn(tokens, grid, before=self.norm1, bias=bias, windows=windows)

    def expand(self, tokens: Tensor) -> Tensor:
        """tokens (B, N, D) -> (B, N, D): norm and MLP."""
        inner = recompute_linear_input(self.mlp.fc1, self.norm2, tokens, recompute=self.recompute)
        return recompute_linear_input(self.mlp.fc2, self.mlp.act, inner, recompute=self.recompute)


def draw_kept(drop_path: DropPath, tokens: Tensor) -> Tensor | None:
    """Draws which images keep a branch: (B, 1, 1), 0 or 1 / probability as in timm's DropPath; None if all keep it.

    It is called outside of compiled code, in which random numbers differ from PyTorch's.
    """
    if drop_path.drop_prob == 0.0 or not drop_path.training:
        return None
    probability = 1 - drop_path.drop_prob
    return tokens.new_empty(len(tokens), 1, 1).bernoulli_(probability).div_(probability)


def _keep(branch: Tensor, kept: Tensor | None) -> Tensor:
    return branch if kept is None else branch * kept.to(branch.dtype)


class ConvBottleneck(nn.Module):
    """detectron2's `ResBottleneckBlock` with its names: 1x1, 3x3 and 1x1 convolutions, initialized to the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.norm1 = LayerNorm2d(inner, eps=1e-6)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.norm2 = LayerNorm2d(inner, eps=1e-6)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.norm3 = LayerNorm2d(width, eps=1e-6)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(self.norm3.weight)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """tokens (B, h*w, D) -> (B, h*w, D)."""
        x = tokens.transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)
        x = F.gelu(self.norm1(self.conv1(x)))
        x = F.gelu(self.norm2(self.conv2(x)))
        return tokens + self.norm3(self.conv3(x)).flatten(2).transpose(1, 2)


def prefers_channels_last(maps: Tensor) -> bool:
    """True if convolutions on these maps are faster if channels are next to each other in memory: on CUDA."""
    return maps.is_cuda


def find_arch(arch: str | dict) -> Arch:
    """Returns the Arch of a name in `ARCHS` or of dict(width=, depth=, heads=); raises ValueError for other values."""
    if isinstance(arch, str) and arch in ARCHS:
        return ARCHS[arch]
    if isinstance(arch, dict) and set(arch) == set(Arch._fields):
        return Arch(**arch)
    raise ValueError(f'arch={arch!r}: expected one of {", ".join(ARCHS)}, or dict(width=, depth=, heads=)')


def initialize(module: nn.Module) -> None:
    """Initializes as the public MAE code: Xavier-uniform projections, tokens from N(0, 0.02).

    The bias of the patch embedding keeps PyTorch's initialization, as there: only linear layers get a bias of zero.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Conv2d) and name.endswith('patch_embed.proj'):
            nn.init.xavier_uniform_(layer.weight.data.flatten(1))  # as a linear layer on the pixels of a patch
    for name, parameter in module.named_parameters():
        if name.endswith(('cls_token', 'mask_token')):
            nn.init.normal_(parameter, std=0.02)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
