"""A step of MAE pretraining, as tools/pretrain.py takes it, against the plain form of it."""
import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mae_backbone.benchmark.measurement import describe, matmul_peak, peak_memory, synchronize
from mae_backbone.benchmark.reference_mae import PlainMAE
from mae_backbone.benchmark.report import Report, Side, in_turns, median_parts, spread, table
from mae_backbone.core.vit import ARCHS
from mae_backbone.engine.optim_wrapper import GuardedOptimWrapper
from mae_backbone.models.pretrainer import MAEPretrainer

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """-> what was found, and a table of it."""
    report = measure(args)
    return report.to_dict(), table(report)


def measure(args: argparse.Namespace) -> Report:
    """Runs both sides in turns in this process, and each once in a process of its own for its memory."""
    device, dtypes = torch.device(args.device), (args.dtype, args.baseline_dtype)
    memory = [peak_memory(build, args, device=device) for build in (build_ours, build_baseline)]
    sides, parts, peaks = [build_ours(args), build_baseline(args)], ([], []), []

    def timed(i: int) -> float:
        if i == 0 and len(parts[0]) <= args.rounds:
            peaks.append([matmul_peak(getattr(torch, name), device) for name in dtypes])
        clock = Clock(device)
        sides[i](clock)
        parts[i].append(clock.parts)
        return sum(clock.parts.values())
    times = in_turns(lambda: timed(0), lambda: timed(1), rounds=args.rounds, warmup=args.warmup)
    flops = [flops_per_image(args, build) for build in (build_ours, build_baseline)]
    found = []
    for i, dtype in enumerate(dtypes):
        throughput = args.batch / statistics.median(times[i])
        peak = max(one for pair in peaks for one, name in zip(pair, dtypes, strict=True) if name == dtype)
        found.append(Side(throughput, memory[i], settings(args, i), median_parts(parts[i][args.warmup:]), {
            'flops_per_image': float(flops[i]), f'matmul_peak_{dtype}': peak,
            'share_of_matmul_peak': flops[i] * throughput / peak}))
    return Report('step', describe(device), *found, spread(*times))


def settings(args: argparse.Namespace, side: int) -> dict:
    """What a side (0 ours, 1 baseline) was run with."""
    H, W = image_size(args)
    return {'model': f'{args.arch}/{args.patch_size}, {H}x{W}', 'batch': args.batch, 'mask_ratio': args.mask_ratio,
            'dtype': (args.dtype, args.baseline_dtype)[side], 'optimizer': ('AdamW, fused', 'AdamW, one by one')[side],
            'attention': ('fused', 'eager')[side], 'rounds': args.rounds}


def image_size(args: argparse.Namespace) -> tuple[int, int]:
    """(H, W) of the option."""
    return (args.image_size[0], args.image_size[-1])


class Clock:
    """Seconds of the parts of a step; a device with a queue is waited for at the end of each."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.parts = device, {}
        synchronize(device)
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What passed since the last call belongs to the part `name`."""
        synchronize(self.device)
        now = time.perf_counter()
        self.parts[name] = self.parts.get(name, 0.0) + now - self.last
        self.last = now


Step = Callable[..., None]  # takes a step of training; laps of the parts go to a Clock, where one is given


def build_ours(args: argparse.Namespace) -> Step:
    """The model and the optimizer of tools/pretrain.py -> a step on one batch of bytes."""
    torch.manual_seed(0)
    device, size = torch.device(args.device), image_size(args)
    width, depth, heads = args.decoder
    compiled = {'auto': 'auto', 'yes': True, 'no': False}[args.compile]
    model = MAEPretrainer(
        dict(arch=args.arch, image_size=size, patch_size=args.patch_size), decoder_width=width, decoder_depth=depth,
        decoder_heads=heads, mask_ratio=args.mask_ratio, compile=compiled,
        data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=MEAN, std=STD)).to(device)
    wrapper = GuardedOptimWrapper(torch.optim.AdamW(trained(model), lr=1e-4, betas=(0.9, 0.95),
                                                    weight_decay=0.05), dtype=args.dtype)
    batch = dict(inputs=torch.randint(256, (args.batch, *size, 3), dtype=torch.uint8),
                 seeds=torch.arange(args.batch), flips=torch.arange(args.batch) % 2 == 0,
                 weights=torch.ones(args.batch))

    def step(clock: Clock | None = None) -> None:
        data = model.data_preprocessor(batch, training=True)
        lap(clock, 'pixels to the device')
        with wrapper.optim_context(model), lap_at(model.mae.decoder.decoder_embed, clock, 'embed + encode'):
            loss = model(**data, mode='loss')['loss']
        finish(clock, lambda: wrapper.backward(loss), lambda: (wrapper.step(), wrapper.zero_grad()))
    return step


def build_baseline(args: argparse.Namespace) -> Step:
    """The plain model and optimizer -> a step on one batch of normalized pixels."""
    torch.manual_seed(0)
    device, size = torch.device(args.device), image_size(args)
    width, depth, heads = args.decoder
    model = PlainMAE(ARCHS[args.arch], image_size=size, patch_size=args.patch_size, decoder_width=width,
                     decoder_depth=depth, decoder_heads=heads, mask_ratio=args.mask_ratio).to(device)
    optimizer = torch.optim.AdamW(trained(model), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05, foreach=False,
                                  fused=False)
    images = torch.randn(args.batch, 3, *size)

    def step(clock: Clock | None = None) -> None:
        inputs = images.to(device)
        lap(clock, 'pixels to the device')
        noise = torch.rand(args.batch, size[0] * size[1] // args.patch_size**2, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.baseline_dtype == 'bfloat16'), \
                lap_at(model.decoder_embed, clock, 'embed + encode'):
            loss = model(inputs, noise)
        finish(clock, loss.backward, lambda: (optimizer.step(), optimizer.zero_grad()))
    return step


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def lap(clock: Clock | None, name: str) -> None:
    """A lap, if there is a clock."""
    if clock is not None:
        clock.lap(name)


@contextmanager
def lap_at(module: nn.Module, clock: Clock | None, name: str) -> Iterator[None]:
    """A lap when `module` is reached, if there is a clock; a compiled model has no such place."""
    hook = None if clock is None else module.register_forward_pre_hook(lambda *_: clock.lap(name))
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def finish(clock: Clock | None, backward: Callable[[], object], update: Callable[[], object]) -> None:
    """What follows the loss."""
    lap(clock, 'decode + loss')
    backward()
    lap(clock, 'backward')
    update()
    lap(clock, 'optimizer')


def flops_per_image(args: argparse.Namespace, build: Callable[[argparse.Namespace], Step]) -> float:
    """FLOPs of forward and backward for an image, all matrix products counted, attention's too."""
    one = argparse.Namespace(**{**vars(args), 'batch': 1, 'compile': 'no'})
    step = build(one)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # it knows not every fused kernel
        step()
    return float(counter.get_total_flops())
