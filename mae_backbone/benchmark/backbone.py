"""Forward and backward pass of the ViTDet backbone on large images, against N x N relative positions."""
import argparse
import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

import mae_backbone
from mae_backbone.benchmark.measurement import describe, free_memory, peak_memory, seconds
from mae_backbone.benchmark.peers.peer import BackbonePeer
from mae_backbone.benchmark.peers.registry import find_peer
from mae_backbone.benchmark.reference_vitdet import PATCH, build_vitdet
from mae_backbone.benchmark.report import Report, Side, bytes_text, measure_in_turns, round_ratios, table
from mae_backbone.engine.memory_estimate import step_memory


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the result of the largest size that both sides fit, all under `sizes`, and tables."""
    peer = find_peer('backbone', args.against, args.peer_root)
    reports = {size: measure(args, size, peer) for size in sorted(args.sizes)}
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


def measure(args: argparse.Namespace, size: int, peer: BackbonePeer) -> Report:
    """Measures both in turns in this process, and the memory of each in a separate process.

    If the peer needs more memory than available, only our ViT is measured.

    Raises:
        ValueError: their features differ.
    """
    device = torch.device(args.device)
    need, free = peer_memory(args, size, peer), free_memory(device)
    builders = [partial(build, args, size, which) for which in (None, peer)]
    if need > free:
        work = builders[0]()
        alone = [seconds(work, device) for _ in range(args.warmup + args.rounds)][args.warmup:]
        ours = Side(args.batch / statistics.median(alone), peak_memory(builders[0], device=device, calls=1),
                    settings(args, size, None))
        return Report(f'backbone, {size} pixels', describe(device), ours, None, (), (
            f'does not fit: it needs {bytes_text(need)}, {bytes_text(free)} are free'), against=peer.title)
    memory = [peak_memory(builder, device=device, calls=1, imports=peer.load) for builder in builders]
    works = [builder() for builder in builders]
    difference = (works[0]() - works[1]()).abs().max().item()
    if not difference <= 1e-3:  # features are of the order of 1 to 10; nan is no agreement
        raise ValueError(f'the features of both sides differ by {difference} at {size} pixels: they must be '
                         'equal, please report this')
    times = measure_in_turns(partial(seconds, works[0], device), partial(seconds, works[1], device),
                             rounds=args.rounds, warmup=args.warmup)
    sides = [Side(args.batch / statistics.median(times[i]), memory[i], settings(args, size, which), {},
                  {'largest difference of features': difference}) for i, which in enumerate((None, peer))]
    return Report(f'backbone, {size} pixels', describe(device), sides[0], sides[1], round_ratios(*times),
                  against=peer.title)


def settings(args: argparse.Namespace, size: int, peer: BackbonePeer | None) -> dict:
    """Settings of a side (None is this package), for the table."""
    return {'model': f'{args.arch}/{PATCH}, {size}x{size}', 'batch': args.batch, 'dtype': 'float32',
            'relative positions': 'no N x N matrix' if peer is None else peer.form, 'rounds': args.rounds,
            'code': f'mae_backbone {mae_backbone.__version__}' if peer is None else peer.code()}


def peer_memory(args: argparse.Namespace, size: int, peer: BackbonePeer) -> int:
    """Bytes that a forward and backward pass of the peer needs, computed without allocating them."""
    model, device = build_model(args, size, peer), torch.device(args.device)
    return step_memory(model, lambda called: called(torch.zeros(args.batch, 3, size, size, device=device))[0]
                       .square().mean(), torch.optim.SGD(model.parameters())).total


def build(args: argparse.Namespace, size: int, peer: BackbonePeer | None) -> Callable[[], Tensor]:
    """Prepares a forward and backward pass on random images, which returns features (B, D, h, w). None is our ViT."""
    model = build_model(args, size, peer)
    images = torch.randn(args.batch, 3, size, size, device=args.device)

    def work() -> Tensor:
        model.zero_grad()
        features, = model(images)
        features.square().mean().backward()
        return features.detach()
    return work


def build_model(args: argparse.Namespace, size: int, peer: BackbonePeer | None) -> nn.Module:
    """The model of a peer, with our weights, or our model. The random numbers after it are the same."""
    model: nn.Module = build_vitdet(args.arch, size)
    if peer is not None:
        model = peer.build(args, size, model.state_dict())
    torch.manual_seed(1)
    return model.to(args.device)
