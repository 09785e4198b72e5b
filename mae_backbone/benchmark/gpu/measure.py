"""Errors, speed and memory of a piece of work."""
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mae_backbone.benchmark.gpu.check import Settings, not_installed, short
from mae_backbone.benchmark.measurement import matmul_peak, seconds, synchronize

GIB = 2**30
PRECISIONS = ('float32', 'tf32', 'bfloat16', 'float16')


def relative_error(value: Tensor, exact: Tensor) -> float:
    """|value - exact| / |exact| of all numbers together, in float64."""
    exact, value = exact.detach().double(), value.detach().to(exact.device).double()
    return float((value - exact).norm() / exact.norm().clamp(min=1e-30))


@contextmanager
def precision(name: str, device: str) -> Iterator[None]:
    """Computes in one of `PRECISIONS`: 'tf32' rounds the inputs of matrix products, the last two are autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high' if name == 'tf32' else 'highest')
    half = name in ('bfloat16', 'float16')
    try:
        with torch.autocast(device, getattr(torch, name) if half else None, enabled=half):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def without_synchronization(device: str) -> Iterator[None]:
    """On CUDA, an operation that makes the host wait for the GPU raises RuntimeError."""
    if device != 'cuda':
        yield
        return
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of a row, or {'error': ...} or {'skipped': ...}: a row that fails does not end its check."""
    try:
        return work()
    except ModuleNotFoundError as error:
        return {'skipped': not_installed(error)}
    except Exception as error:  # of a kernel, a compiler, or memory
        return {'error': short(error)}


def speed(work: Callable[[], object], settings: Settings, *, images: int, flops: float | None = None,
          dtype: str = 'bfloat16', steps: int = 10, aim: float | None = None) -> dict[str, float]:
    """Images per second and peak memory of calls in a row. The host does not wait for each call.

    Args:
        work: handles `images` images.
        settings: of the checks.
        images: of a call.
        flops: of the model for an image: adds TFLOP/s, and their share of the fastest matrix product in `dtype`.
        dtype: of the matrix products.
        steps: calls in each of three rounds.
        aim: images per second to reach on an H200; not stated with --tiny.
    """
    device, steps = torch.device(settings.device), 1 if settings.tiny else steps
    first = seconds(work, device)
    work()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    times = [seconds(lambda: [work() for _ in range(steps)], device) / steps for _ in range(1 if settings.tiny else 3)]
    rate = images / statistics.median(times)
    figures = {'images/s': rate} | ({'aim, H200': aim} if aim and not settings.tiny else {})
    figures['ms'] = 1e3 * statistics.median(times)
    if device.type == 'cuda':
        figures['peak GiB'] = torch.cuda.max_memory_allocated() / GIB
    if flops is not None:
        figures |= {'GFLOP/image': flops / 1e9, 'TFLOP/s': rate * flops / 1e12,
                    'of matmul peak': rate * flops / peak(dtype, settings)}
    return figures | {'first call s': first}


@cache
def peak(dtype: str, settings: Settings) -> float:
    """FLOP/s of the fastest large matrix product; of a small one with --tiny."""
    if settings.tiny:
        a = torch.ones(256, 256, device=settings.device, dtype=getattr(torch, dtype))
        return 2 * 256**3 / seconds(lambda: a @ a, torch.device(settings.device))
    return matmul_peak(getattr(torch, dtype), torch.device(settings.device))


def compile_options(settings: Settings) -> dict[str, Any]:
    """Options of torch.compile. On a CPU Inductor takes a minute and is not faster."""
    return {} if settings.device == 'cuda' else {'backend': 'aot_eager'}


def flops_of(work: Callable[[], object]) -> float:
    """FLOPs of the matrix products and convolutions in a call."""
    # The counter does not support every fused kernel of attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return float(counter.get_total_flops())


def milliseconds(work: Callable[[], object], settings: Settings, *, calls: int = 10) -> float:
    """Milliseconds of a call, the median of some."""
    device = torch.device(settings.device)
    work()
    synchronize(device)
    return 1e3 * statistics.median(seconds(work, device) for _ in range(2 if settings.tiny else calls))
