"""Forward and backward pass of the ViTDet backbone on large images, against N x N relative positions."""
import argparse
import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from mae_backbone.benchmark.measurement import describe, free_memory, peak_memory, seconds
from mae_backbone.benchmark.report import Report, Side, bytes_text, measure_in_turns, ratio_spread, table
from mae_backbone.core.attention import Attention, relative
from mae_backbone.core.vit import ARCHS
from mae_backbone.core.windows import Windows
from mae_backbone.engine.memory_estimate import step_memory
from mae_backbone.models.backbone import ViTBackbone

PATCH = 16  # pixels


class ReferenceAttention(Attention):
    """Attention as in detectron2: relative positions of all pairs of tokens are added to the scores."""

    def forward(self, tokens: Tensor, grid: tuple[int, int] | None = None, *,
                last: int | None = None, bias: Tensor | None = None,
                before: Callable[[Tensor], Tensor] | None = None, windows: Windows | None = None) -> Tensor:
        """tokens (B, N, D) on a grid of N = h*w patches, after `before` -> (B, N, D)."""
        tokens = tokens if before is None else before(tokens)
        if windows is not None:
            return windows.join(self(windows.split(tokens), (windows.size, windows.size)))
        assert grid is not None
        assert self.rel_pos_h is not None
        assert self.rel_pos_w is not None
        B, N, D = tokens.shape
        h, w = grid
        q, k, v = self.qkv(tokens).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (D // self.heads) ** -0.5
        queries = q.reshape(B, self.heads, h, w, -1)
        rows = torch.einsum('bnhwd,hkd->bnhwk', queries, relative(self.rel_pos_h, h))
        columns = torch.einsum('bnhwd,wkd->bnhwk', queries, relative(self.rel_pos_w, w))
        scores = scores.reshape(B, self.heads, h, w, h, w) + rows[..., :, None] + columns[..., None, :]
        mixed = scores.reshape(B, self.heads, N, N).softmax(dim=-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(B, N, D))


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the result of the largest size that both sides fit, all under `sizes`, and tables."""
    reports = {size: measure(args, size) for size in sorted(args.sizes)}
    both = [size for size, report in reports.items() if report.baseline] or list(reports)
    result = {'sizes': {size: report.to_dict() for size, report in reports.items()},
              'bytes_of_a_further_patch': growth({size: report.ours.memory for size, report in reports.items()})}
    lines = [f'from {smaller} to {larger} pixels: {bytes_text(number)} per additional patch'
             for (smaller, larger), number in zip(pairwise(reports), result['bytes_of_a_further_patch'], strict=True)]
    return {**reports[max(both)].to_dict(), **result}, '\n\n'.join([*map(table, reports.values()), '\n'.join(lines)])


def growth(memory: dict[int, int]) -> list[float]:
    """Memory in bytes by image size in pixels -> bytes per additional patch between sizes: constant if linear."""
    return [(memory[larger] - memory[smaller]) / ((larger**2 - smaller**2) / PATCH**2)
            for smaller, larger in pairwise(memory)]


def measure(args: argparse.Namespace, size: int) -> Report:
    """Measures both in turns in this process, and the memory of each in a separate process.

    If the reference needs more memory than is free, only ours is measured.

    Raises:
        ValueError: their features differ.
    """
    device = torch.device(args.device)
    need, free = reference_memory(args, size), free_memory(device)
    builders = [partial(build, args, size, reference=reference) for reference in (False, True)]
    if need > free:
        work = builders[0]()
        alone = [seconds(work, device) for _ in range(args.warmup + args.rounds)][args.warmup:]
        ours = Side(args.batch / statistics.median(alone), peak_memory(builders[0], device=device, calls=1),
                    settings(args, size, reference=False))
        return Report(f'backbone, {size} pixels', describe(device), ours, None, (), (
            f'does not fit: it needs {bytes_text(need)}, {bytes_text(free)} are free'))
    memory = [peak_memory(builder, device=device, calls=1) for builder in builders]
    works = [builder() for builder in builders]
    difference = (works[0]() - works[1]()).abs().max().item()
    if difference > 1e-3:  # features are of the order of 1 to 10
        raise ValueError(f'the features of both sides differ by {difference} at {size} pixels: they must be '
                         'equal, please report this')
    times = measure_in_turns(partial(seconds, works[0], device), partial(seconds, works[1], device),
                             rounds=args.rounds, warmup=args.warmup)
    sides = [Side(args.batch / statistics.median(times[i]), memory[i], settings(args, size, reference=bool(i)), {},
                  {'largest difference of features': difference}) for i in (0, 1)]
    return Report(f'backbone, {size} pixels', describe(device), sides[0], sides[1], ratio_spread(*times))


def settings(args: argparse.Namespace, size: int, *, reference: bool) -> dict:
    """Settings of a side, for the table."""
    return {'model': f'{args.arch}/{PATCH}, {size}x{size}', 'batch': args.batch, 'dtype': 'float32',
            'relative positions': 'N x N table' if reference else 'no N x N matrix', 'rounds': args.rounds}


def reference_memory(args: argparse.Namespace, size: int) -> int:
    """Bytes that a forward and backward pass of the reference needs, computed without allocating them."""
    model, device = build_model(args, size, reference=True), torch.device(args.device)
    return step_memory(model, lambda called: called(torch.zeros(args.batch, 3, size, size, device=device))[0]
                       .square().mean(), torch.optim.SGD(model.parameters())).total


def build(args: argparse.Namespace, size: int, *, reference: bool) -> Callable[[], Tensor]:
    """Prepares a forward and backward pass on random images, which returns the features (B, D, h, w)."""
    model = build_model(args, size, reference=reference)
    images = torch.randn(args.batch, 3, size, size, device=args.device)

    def work() -> Tensor:
        model.zero_grad()
        features, = model(images)
        features.square().mean().backward()
        return features.detach()
    return work


def build_model(args: argparse.Namespace, size: int, *, reference: bool) -> ViTBackbone:
    """ViTDet's backbone with random relative positions; the same weights in every call."""
    torch.manual_seed(0)
    depth = ARCHS[args.arch].depth
    model = ViTBackbone(args.arch, image_size=size, pretrain_image_size=224, patch_size=PATCH, window_size=14,
                        relative_positions=True, global_blocks=range(depth // 4 - 1, depth, depth // 4))
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:  # they are zero at the start of a training, and a comparison would prove nothing
            nn.init.normal_(parameter, std=0.02)
    if reference:
        for block in model.blocks:
            block.attn.__class__ = ReferenceAttention  # the same parameters under the same names
            cast(Any, block).recompute = False
    return model.to(args.device)
