"""Describes the machine (CPUs, GPU, memory), and measures its speed in GFLOP/s and of its disk in MB/s."""
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mae_backbone.data.files import read_file
from mae_backbone.utils.cpu import available_cpus, read_system_file
from mae_backbone.utils.memory import available_memory

_SIDE = 1024      # rows and columns of the matrices that are multiplied
_SECONDS = 1.0    # duration of each measurement in seconds
_NUM_FILES = 256  # largest number of files that are read


@dataclass(frozen=True)
class Machine:
    """A machine and the device on which it trains.

    Attributes:
        device: 'cpu', 'cuda' or 'mps'.
        name: name of the CPU or GPU.
        memory: free memory in bytes of the GPU, or of the machine if it has no GPU.
        total_memory: total memory in bytes of the GPU, or the free memory of a machine without a GPU.
        cpus: number of CPUs that this process may use.
        gflops: speed of matrix products in billions of operations per second. On a CPU in float32, on a CUDA GPU in
            bfloat16, or in float16 if it has no bfloat16 units.
        disk: reading speed in MB/s; 0 if not measured. Files in the page cache are read faster than from disk.
    """

    device: str
    name: str
    memory: int
    total_memory: int
    cpus: int
    gflops: float
    disk: float


def measure_machine(files: Sequence[str] = ()) -> Machine:
    """Measures this machine, for about two seconds.

    Args:
        files: paths of image files. Some of them are read to measure the disk.
    """
    device = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'
    if device == 'cuda':
        memory, total = torch.cuda.mem_get_info()
        name, dtype = torch.cuda.get_device_name(), (
            torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16)
    else:
        memory = total = available_memory()
        name, dtype = _processor(), torch.float32
    return Machine(device, name, memory, total, available_cpus(), round(measure_gflops(device, dtype), 1),
                   round(measure_disk(files), 1))


def measure_gflops(device: str, dtype: torch.dtype, seconds: float = _SECONDS) -> float:
    """Measures products of 1,024 x 1,024 matrices, in billions of operations per second."""
    first, second = (torch.rand(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        first @ second
    _synchronize(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(4):
            first @ second
        _synchronize(device)
        count += 4
    return 2 * _SIDE ** 3 * count / (time.perf_counter() - start) / 1e9


def measure_disk(files: Sequence[str], seconds: float = _SECONDS) -> float:
    """Measures the speed of reading evenly spaced files one after the other, in MB/s; 0 without files."""
    chosen = files[::max(1, len(files) // _NUM_FILES)][:_NUM_FILES]
    start, num_bytes = time.perf_counter(), 0
    for path in chosen:
        try:
            num_bytes += len(read_file(path))
        except OSError:
            continue
        if time.perf_counter() - start > seconds:
            break
    return num_bytes / max(time.perf_counter() - start, 1e-6) / 1e6


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()
    elif device == 'mps':
        torch.mps.synchronize()


def _processor() -> str:
    names = [line.split(':', 1)[1].strip() for line in read_system_file('/proc/cpuinfo').splitlines()
             if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
