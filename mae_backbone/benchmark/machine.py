"""The machine: what it is, how fast it multiplies matrices, how much memory a piece of work takes at its peak."""
import argparse
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch


def add_common_arguments(parser: argparse.ArgumentParser, *, rounds: int = 5) -> None:
    """The options of the benchmarks that run a model."""
    parser.add_argument('--threads', type=int, help='threads of torch; those of the machine without it')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='cpu or cuda (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=rounds, help='each times both sides (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=1, help='rounds before that count for nothing (default: 1)')


def describe(device: torch.device) -> dict:
    """Name of the processor, threads, versions."""
    return {'device': device_name(device), 'threads': torch.get_num_threads(), 'torch': torch.__version__,
            'load': round(os.getloadavg()[0], 1)}


def device_name(device: torch.device) -> str:
    """Such as 'NVIDIA H100' or 'Intel(R) Xeon(R)'."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    names = [line.split(':')[1].strip() for line in (info.read_text('utf-8').splitlines() if info.is_file() else ())
             if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, until the device is done."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def matmul_peak(dtype: torch.dtype, device: torch.device, *, repeats: int = 5) -> float:
    """FLOP/s of the best of some multiplications of large square matrices: what the machine can do, not its data sheet.

    Called in every round of a benchmark, so that it meets the same load of the machine.
    """
    size = 8192 if device.type == 'cuda' else 1536
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = [seconds(lambda: a @ b, device) for _ in range(1 + repeats)][1:]
    return 2 * size**3 / min(times)


def peak_memory(prepare: Callable[..., Callable[[], object]], *args: object, device: torch.device,
                calls: int = 2) -> int:
    """Bytes that `prepare(*args)`, and what it returns called `calls` times, take at their peak.

    It happens in a fresh process, so that nothing else counts: there the imports, and nothing more, are subtracted.
    On CUDA it is what torch allocated on the device.

    Raises:
        RuntimeError: the process ended without an answer, such as one killed for its memory.
    """
    context = get_context('spawn')
    ours, theirs = context.Pipe()
    child = context.Process(target=_measure, args=(theirs, prepare, args, device, calls, torch.get_num_threads()))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f'the process that measures memory ended with exit code {child.exitcode}: there may not be '
                           'enough memory, choose a smaller --batch or --arch') from None
    finally:
        child.join()


def _measure(answer: Connection, prepare: Callable, args: tuple, device: torch.device, calls: int,
             threads: int) -> None:
    torch.set_num_threads(threads)
    before = peak_bytes(device)
    work = prepare(*args)
    for _ in range(calls):
        work()
    synchronize(device)
    answer.send(peak_bytes(device) - before)


def peak_bytes(device: torch.device) -> int:
    """Bytes that this process had at its peak."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    status = Path('/proc/self/status')  # ru_maxrss is inherited from the parent on Linux
    if status.is_file():
        return next(int(line.split()[1]) * 1024 for line in status.read_text('utf-8').splitlines()
                    if line.startswith('VmHWM'))
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
