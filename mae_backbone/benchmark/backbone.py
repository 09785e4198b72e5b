"""Forward and backward of the ViTDet backbone on large images, against relative positions as an N x N table."""
import argparse
import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from mae_backbone.benchmark.measurement import describe, memory_left, peak_memory, seconds
from mae_backbone.benchmark.report import Report, Side, bytes_text, in_turns, spread, table
from mae_backbone.core.attention import Attention, relative
from mae_backbone.core.vit import ARCHS
from mae_backbone.core.windows import Windows
from mae_backbone.engine.memory_estimate import step_memory
from mae_backbone.models.backbone import ViTBackbone

PATCH = 16  # pixels


class PlainAttention(Attention):
    """Attention as detectron2 writes it: the table of all pairs of tokens is added, and softmax taken of it."""

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None, *, bias: None = None,
                before: Callable[[Tensor], Tensor] | None = None, windows: Windows | None = None) -> Tensor:
        """tokens (B, N, D) on a grid of N = h*w patches, once `before` has made them -> (B, N, D)."""
        tokens = tokens if before is None else before(tokens)
        if windows is not None:
            return windows.join(self(windows.split(tokens), (windows.size, windows.size)))
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


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """-> what was found at the largest size of both sides, with all sizes under `sizes`, and a table for each."""
    reports = {size: measure(args, size) for size in sorted(args.sizes)}
    both = [size for size, report in reports.items() if report.baseline] or list(reports)
    found = {'sizes': {size: report.to_dict() for size, report in reports.items()},
             'bytes_of_a_further_patch': growth({size: report.ours.memory for size, report in reports.items()})}
    lines = [f'from {smaller} to {larger} pixels: {bytes_text(number)} for each further patch'
             for (smaller, larger), number in zip(pairwise(reports), found['bytes_of_a_further_patch'], strict=True)]
    return {**reports[max(both)].to_dict(), **found}, '\n\n'.join([*map(table, reports.values()), '\n'.join(lines)])


def growth(memory: dict[int, int]) -> list[float]:
    """Bytes at each size in pixels -> bytes of a further patch from each size to the next: equal if it is linear."""
    return [(memory[larger] - memory[smaller]) / ((larger**2 - smaller**2) / PATCH**2)
            for smaller, larger in pairwise(memory)]


def measure(args: argparse.Namespace, size: int) -> Report:
    """Runs both sides in turns in this process, and each once in a process of its own for its memory.

    Where the plain form needs more memory than there is, ours is run alone.

    Raises:
        ValueError: their outcomes differ.
    """
    device = torch.device(args.device)
    need, left = plain_memory(args, size), memory_left(device)
    builders = [partial(build, args, size, plain=plain) for plain in (False, True)]
    if need > left:
        memory = peak_memory(builders[0], device=device, calls=1)
        work = builders[0]()
        times = [seconds(work, device) for _ in range(args.warmup + args.rounds)][args.warmup:]
        ours = Side(args.batch / statistics.median(times), memory, settings(args, size, plain=False))
        return Report(f'backbone, {size} pixels', describe(device), ours, None, (), (
            f'does not fit: it needs {bytes_text(need)}, {bytes_text(left)} are free'))
    memory = [peak_memory(builder, device=device, calls=1) for builder in builders]
    works = [builder() for builder in builders]
    difference = (works[0]() - works[1]()).abs().max().item()
    if difference > 1e-3:  # features are of the order of 1 to 10
        raise ValueError(f'the features of both sides differ by {difference} at {size} pixels: they must be the same')
    times = in_turns(*[partial(seconds, work, device) for work in works], rounds=args.rounds,
                     warmup=args.warmup)
    sides = [Side(args.batch / statistics.median(times[i]), memory[i], settings(args, size, plain=bool(i)), {},
                  {'largest difference of features': difference}) for i in (0, 1)]
    return Report(f'backbone, {size} pixels', describe(device), *sides, spread(*times))


def settings(args: argparse.Namespace, size: int, *, plain: bool) -> dict:
    """What a side was run with."""
    return {'model': f'{args.arch}/{PATCH}, {size}x{size}', 'batch': args.batch, 'dtype': 'float32',
            'relative positions': 'N x N table' if plain else 'nothing N x N', 'rounds': args.rounds}


def plain_memory(args: argparse.Namespace, size: int) -> int:
    """Bytes of a forward and backward pass of the plain form, computed without taking them."""
    model, device = build_model(args, size, plain=True), torch.device(args.device)
    return step_memory(model, lambda called: called(torch.zeros(args.batch, 3, size, size, device=device))[0]
                       .square().mean(), torch.optim.SGD(model.parameters())).total


def build(args: argparse.Namespace, size: int, *, plain: bool) -> Callable[[], Tensor]:
    """-> a forward and backward pass on random images, that returns the features (B, D, h, w)."""
    model = build_model(args, size, plain=plain)
    images = torch.randn(args.batch, 3, size, size, device=args.device)

    def work() -> Tensor:
        model.zero_grad()
        features, = model(images)
        features.square().mean().backward()
        return features.detach()
    return work


def build_model(args: argparse.Namespace, size: int, *, plain: bool) -> ViTBackbone:
    """ViTDet's backbone with random positions, always the same."""
    torch.manual_seed(0)
    depth = ARCHS[args.arch].depth
    model = ViTBackbone(args.arch, image_size=size, pretrain_image_size=224, patch_size=PATCH, window_size=14,
                        relative_positions=True, global_blocks=range(depth // 4 - 1, depth, depth // 4))
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:  # zero at the start of a training, which would compare nothing
            nn.init.normal_(parameter, std=0.02)
    if plain:
        for block in model.blocks:
            block.attn.__class__ = PlainAttention  # the same parameters under the same names
            block.recompute = False
    return model.to(args.device)
