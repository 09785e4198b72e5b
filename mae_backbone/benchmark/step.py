"""A step of MAE pretraining as in `mae-backbone pretrain`, against another implementation."""
import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import mae_backbone
from mae_backbone.benchmark.measurement import Clock, describe, matmul_peak, peak_memory, seconds
from mae_backbone.benchmark.peers.peer import StepPeer
from mae_backbone.benchmark.peers.registry import find_peer
from mae_backbone.benchmark.report import Report, Side, measure_in_turns, median_parts, round_ratios, table
from mae_backbone.core.masking import mask_from_noise
from mae_backbone.engine.optim_wrapper import GuardedOptimWrapper
from mae_backbone.engine.prefetch import prefetch
from mae_backbone.models.pretrainer import MAEPretrainer

_GPU_STEPS = 10   # in a round
_PART_ROUNDS = 3  # that measure the parts of a step
ADAMW: dict[str, Any] = dict(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the content of its JSON file, and a table."""
    report = measure(args, find_peer('step', args.against, args.peer_root))
    return report.to_dict(), table(report)


def measure(args: argparse.Namespace, peer: StepPeer) -> Report:
    """Measures both in turns in this process, and the memory of each in a separate process.

    Raises:
        ValueError: their losses differ.
    """
    device, dtypes = torch.device(args.device), (args.dtype, args.baseline_dtype)
    difference = loss_difference(args, peer)
    if not difference <= 1e-3:  # losses are about 1 to 2; nan is no agreement
        raise ValueError(f'the losses of ours and {peer.code()} differ by {difference} with the same weights, images '
                         'and masks: they must be equal, please report this')
    builders = build_ours, partial(build_baseline, peer=peer)
    memory = [peak_memory(build, args, device=device, imports=peer.load) for build in builders]
    sides = [build(args) for build in builders]
    peaks: list[list[float]] = []
    # Enough steps that the host runs ahead of a GPU, as in a training; one on a CPU, which has no queue.
    steps = _GPU_STEPS if device.type == 'cuda' else 1

    def timed(i: int) -> float:
        if i == 0:
            peaks.append([matmul_peak(getattr(torch, name), device) for name in dtypes])
        return seconds(lambda: [sides[i]() for _ in range(steps)], device) / steps

    def parts_of(i: int) -> dict[str, float]:
        clock = Clock(device)
        sides[i](clock)
        return clock.parts
    times = measure_in_turns(lambda: timed(0), lambda: timed(1), rounds=args.rounds, warmup=args.warmup)
    # Not in the timed steps: at the end of each part the host waits for the device.
    parts = [[parts_of(i) for _ in range(min(args.rounds, _PART_ROUNDS))] for i in (0, 1)]
    image_flops = [flops_per_image(args, build) for build in builders]
    results = []
    for i, dtype in enumerate(dtypes):
        throughput = args.batch / statistics.median(times[i])
        peak = max(flops for pair in peaks for flops, name in zip(pair, dtypes, strict=True) if name == dtype)
        results.append(Side(throughput, memory[i], settings(args, (None, peer)[i], dtype), median_parts(parts[i]), {
            'flops_per_image': image_flops[i], f'matmul_peak_{dtype}': peak,
            'share_of_matmul_peak': image_flops[i] * throughput / peak, 'largest difference of losses': difference}))
    return Report('step', describe(device), results[0], results[1], round_ratios(*times), against=peer.title)


def settings(args: argparse.Namespace, peer: StepPeer | None, dtype: str) -> dict:
    """Settings of a side (None is this package), for the table."""
    H, W = image_size(args)
    loop = 'AdamW, for loop' if peer is not None and peer.optimizer else 'AdamW'
    return {'model': f'{args.arch}/{args.patch_size}, {H}x{W}', 'batch': args.batch, 'mask_ratio': args.mask_ratio,
            'dtype': dtype, 'optimizer': 'AdamW, fused' if peer is None else loop,
            'attention': 'fused' if peer is None else peer.attention, 'rounds': args.rounds,
            'code': f'mae_backbone {mae_backbone.__version__}' if peer is None else peer.code()}


@torch.no_grad()
def loss_difference(args: argparse.Namespace, peer: StepPeer) -> float:
    """Difference of the losses of two images, with the weights of the peer and the same masks, in float32."""
    torch.manual_seed(0)
    size = image_size(args)
    ours, other = build_model(args).mae, peer.build(args)
    ours.load_state_dict({('decoder.' if name.startswith(('decoder_', 'mask_token')) else 'encoder.') + name: value
                          for name, value in other.weights().items()})
    images, noise = torch.randn(2, 3, *size), torch.rand(2, size[0] * size[1] // args.patch_size**2)
    return abs(ours(images, mask_from_noise(noise, args.mask_ratio))[0] - other(images, noise)).item()


def image_size(args: argparse.Namespace) -> tuple[int, int]:
    """(H, W) of --image-size."""
    return (args.image_size[0], args.image_size[-1])


Step = Callable[..., None]  # a training step; a Clock, if given, times its parts


def build_model(args: argparse.Namespace) -> MAEPretrainer:
    """Our model."""
    width, depth, heads = args.decoder
    compiled: bool | str = {'yes': True, 'no': False}.get(args.compile, 'auto')
    return MAEPretrainer(
        dict(arch=args.arch, image_size=image_size(args), patch_size=args.patch_size), decoder_width=width,
        decoder_depth=depth, decoder_heads=heads, mask_ratio=args.mask_ratio, compile=compiled,
        data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=MEAN, std=STD))


def build_ours(args: argparse.Namespace) -> Step:
    """Builds model and optimizer as `mae-backbone pretrain`. Returns a step on one batch of uint8 pixels."""
    torch.manual_seed(0)
    device, size = torch.device(args.device), image_size(args)
    model = build_model(args).to(device)
    wrapper = GuardedOptimWrapper(torch.optim.AdamW(trainable(model), **ADAMW), dtype=args.dtype)
    batch = dict(inputs=torch.randint(256, (args.batch, *size, 3), dtype=torch.uint8),
                 seeds=torch.arange(args.batch), flips=torch.arange(args.batch) % 2 == 0,
                 weights=torch.ones(args.batch))
    if device.type == 'cuda':  # as the loader of a training delivers it
        batch = {name: value.pin_memory() for name, value in batch.items()}
    batches = iter(prefetch(repeat(batch), device))

    def step(clock: Clock | None = None) -> None:
        with laps_of(model, wrapper, clock):
            model.train_step(dict(next(batches)), wrapper)  # as the loops of a training call it
    return step


def build_baseline(args: argparse.Namespace, peer: StepPeer) -> Step:
    """Builds the model of a peer and its optimizer. Returns a step on one batch of normalized pixels."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    model = peer.build(args).to(device).train()
    optimizer = torch.optim.AdamW(trainable(model), **ADAMW, **peer.optimizer)
    images = torch.randn(args.batch, 3, *image_size(args))

    def step(clock: Clock | None = None) -> None:
        inputs = images.to(device)
        lap(clock, 'pixels to the device')
        with torch.autocast(device.type, torch.bfloat16, enabled=args.baseline_dtype == 'bfloat16'), \
                lap_at(model.decoder_embed, clock, 'embed + encode'):
            loss = model(inputs)
        finish(clock, loss.backward, lambda: (optimizer.step(), optimizer.zero_grad()))
    return step


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def lap(clock: Clock | None, name: str) -> None:
    """Ends a part, if there is a clock."""
    if clock is not None:
        clock.lap(name)


@contextmanager
def laps_of(model: MAEPretrainer, wrapper: GuardedOptimWrapper, clock: Clock | None) -> Iterator[None]:
    """Ends the parts of a training step, if there is a clock. Without one, the step is not touched."""
    if clock is None:
        yield
        return
    backward, step = wrapper.backward, wrapper.step

    def timed_backward(loss: Tensor, **options: Any) -> None:
        clock.lap('decode + loss')
        backward(loss, **options)
        clock.lap('backward')

    def timed_step(**options: Any) -> None:
        step(**options)
        clock.lap('optimizer')
    pixels = model.data_preprocessor.register_forward_hook(lambda *_: clock.lap('pixels to the device'))
    wrapper.backward, wrapper.step = timed_backward, timed_step  # type: ignore[method-assign]
    try:
        with lap_at(model.mae.decoder.decoder_embed, clock, 'embed + encode'):
            yield
    finally:
        pixels.remove()
        del wrapper.backward, wrapper.step  # the methods of the class


@contextmanager
def lap_at(module: nn.Module, clock: Clock | None, name: str) -> Iterator[None]:
    """Ends a part when `module` is called, if there is a clock. `module` is not a compiled part."""
    hook = None if clock is None else module.register_forward_pre_hook(lambda *_: clock.lap(name))
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def finish(clock: Clock | None, backward: Callable[[], object], update: Callable[[], object]) -> None:
    """Backward pass and update, with a part for each."""
    lap(clock, 'decode + loss')
    backward()
    lap(clock, 'backward')
    update()
    lap(clock, 'optimizer')


def flops_per_image(args: argparse.Namespace, build: Callable[[argparse.Namespace], Step]) -> float:
    """FLOPs of forward and backward pass per image: all matrix products, including attention."""
    step = build(argparse.Namespace(**{**vars(args), 'batch': 1, 'compile': 'no'}))
    # The counter does not support every fused kernel of attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return float(counter.get_total_flops())
