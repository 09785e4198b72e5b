"""Forward and backward of the ViTDet backbone on large images, against relative positions as an N x N table."""
import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mae_backbone.attention import Attention, relative
from mae_backbone.benchmark.machine import add_common_arguments, describe, peak_memory, seconds
from mae_backbone.benchmark.report import Report, Side, in_turns, spread, table
from mae_backbone.vit import ARCHS, ViT


class PlainAttention(Attention):
    """Attention as detectron2 writes it: the table of all pairs of tokens is added, and softmax taken of it."""

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None, *,
                bias: None = None, before: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """tokens (B, N, D) on a grid of N = h*w patches, once `before` has made them -> (B, N, D)."""
        tokens = tokens if before is None else before(tokens)
        B, N, D = tokens.shape
        h, w = grid
        q, k, v = self.qkv(tokens).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (D // self.heads) ** -0.5
        by_place = q.reshape(B, self.heads, h, w, -1)
        rows = torch.einsum('bnhwd,hkd->bnhwk', by_place, relative(self.rel_pos_h, h))
        columns = torch.einsum('bnhwd,wkd->bnhwk', by_place, relative(self.rel_pos_w, w))
        scores = scores.reshape(B, self.heads, h, w, h, w) + rows[..., :, None] + columns[..., None, :]
        mixed = scores.reshape(B, self.heads, N, N).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(B, N, D))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    add_common_arguments(parser, rounds=2)
    parser.add_argument('--arch', choices=ARCHS, default='base', help='size of the model (default: %(default)s)')
    parser.add_argument('--sizes', '--image-size', type=int, nargs='+', default=[512, 1024], metavar='PIXELS',
                        help='sides of square images (default: 512 1024; ViTDet trains at 1024)')
    parser.add_argument('--batch', type=int, default=1, help='images in a step (default: %(default)s)')


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """-> what was found at the largest size, with all sizes under `sizes`, and a table for each."""
    reports = {size: measure(args, size) for size in sorted(args.sizes)}
    found = reports[max(reports)].to_dict()
    return {**found, 'sizes': {size: report.to_dict() for size, report in reports.items()}}, \
        '\n\n'.join(table(report) for report in reports.values())


def measure(args: argparse.Namespace, size: int) -> Report:
    """Runs both sides in turns in this process, and each once in a process of its own for its memory.

    Raises:
        ValueError: their outcomes differ.
    """
    device = torch.device(args.device)
    builders = [partial(build, args, size, plain=plain) for plain in (False, True)]
    memory = [peak_memory(builder, device=device, calls=1) for builder in builders]
    works = [builder() for builder in builders]
    difference = (works[0]() - works[1]()).abs().max().item()
    if difference > 1e-3:  # features are of the order of 1 to 10
        raise ValueError(f'the features of both sides differ by {difference} at {size} pixels: they must be the same')
    times = in_turns(*[partial(seconds, work, device) for work in works], rounds=args.rounds,
                     warmup=args.warmup)
    sides = [Side(args.batch / statistics.median(times[i]), memory[i],
                  {'model': f'{args.arch}/16, {size}x{size}', 'batch': args.batch, 'dtype': 'float32',
                   'relative positions': positions, 'rounds': args.rounds},
                  {}, {'largest difference of features': difference})
             for i, positions in enumerate(('folded into the heads', 'N x N table'))]
    return Report(f'backbone, {size} pixels', describe(device), *sides, spread(*times))


def build(args: argparse.Namespace, size: int, *, plain: bool) -> Callable[[], Tensor]:
    """ViTDet's backbone with random positions -> a forward and backward pass that returns the features (B, D, h, w)."""
    torch.manual_seed(0)
    device, depth = torch.device(args.device), ARCHS[args.arch].depth
    model = ViT(args.arch, image_size=size, pretrain_image_size=224, window_size=14, relative_positions=True,
                global_blocks=range(depth // 4 - 1, depth, depth // 4), class_token=False, final_norm=False)
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:  # zero at the start of a training, which would compare nothing
            nn.init.normal_(parameter, std=0.02)
    if plain:
        for block in model.blocks:
            block.attn.__class__ = PlainAttention  # the same parameters under the same names
            block.recompute = False
    model.to(device)
    images = torch.randn(args.batch, 3, size, size, device=device)

    def work() -> Tensor:
        model.zero_grad()
        features = model.feature_maps(images)[0]
        features.square().mean().backward()
        return features.detach()
    return work
