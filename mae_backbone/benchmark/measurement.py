"""Measurement of time and peak memory, and a description of the machine."""
import platform
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

_SIGKILL = 9  # the module signal lacks it on Windows


def describe(device: torch.device) -> dict:
    """Describes the machine: processor, threads, versions, load."""
    import psutil  # as below: `benchmark gpu` times a GPU without it
    return {'device': device_name(device), 'threads': torch.get_num_threads(), 'torch': torch.__version__,
            'load': round(psutil.getloadavg()[0], 1)}


def device_name(device: torch.device) -> str:
    """Name of a device, such as 'NVIDIA H100' or 'Intel(R) Xeon(R)'."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    names = [line.split(':')[1].strip() for line in (info.read_text('utf-8').splitlines() if info.is_file() else ())
             if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, until the device has finished."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


class Clock:
    """Seconds of the parts of a step. Each part ends when the device has finished its queue."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.parts: dict[str, float] = {}
        synchronize(device)
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Adds the time since the last call to the part `name`."""
        synchronize(self.device)
        now = time.perf_counter()
        self.parts[name] = self.parts.get(name, 0.0) + now - self.last
        self.last = now


def free_memory(device: torch.device) -> int:
    """Free memory of the device, in bytes."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    import psutil
    return psutil.virtual_memory().available


def matmul_peak(dtype: torch.dtype, device: torch.device, *, repeats: int = 5) -> float:
    """FLOP/s of the fastest of some products of large square matrices: measured, not from a data sheet.

    Called in every round of a benchmark, so that it is measured under the same load.
    """
    size = 8192 if device.type == 'cuda' else 1536
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = [seconds(lambda: a @ b, device) for _ in range(1 + repeats)][1:]
    return 2 * size**3 / min(times)


class Worker:
    """Work in a separate process, so that only its memory and its imports are measured.

    Args:
        prepare: `prepare(*args)` is called in the process and returns the work. Its exceptions are raised here.
        device: whose memory is measured.
        imports: called in the process before; its memory is not counted.

    Raises:
        ValueError: the process was killed, as by a system that is short of memory.
        RuntimeError: the process ended in another way without a result.
    """

    def __init__(self, prepare: Callable[..., Callable[[], object]], *args: object, device: torch.device,
                 imports: Callable[[], object] | None = None) -> None:
        context = get_context('spawn')
        self.pipe, remote = context.Pipe()
        self.process = context.Process(target=_serve, daemon=True, args=(
            remote, prepare, args, device, imports, torch.get_num_threads()))
        self.process.start()
        remote.close()
        self._receive()

    def __enter__(self) -> 'Worker':
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()  # ends the process
        self.process.join()

    def call(self) -> Any:
        """Does the work once, and returns its result."""
        self.pipe.send('call')
        return self._receive()

    def memory(self) -> int:
        """Peak memory of preparation and work in bytes; on CUDA, what torch allocated on the device."""
        self.pipe.send('memory')
        return self._receive()

    def _receive(self) -> Any:
        try:
            result = self.pipe.recv()
        except EOFError:
            self.process.join()
            if self.process.exitcode == -_SIGKILL:
                raise ValueError('the measuring process was killed, most often because memory ran out: choose a '
                                 'smaller --batch, image size or model') from None
            raise RuntimeError(f'the measuring process ended with exit code {self.process.exitcode}') from None
        if isinstance(result, Exception):
            raise result
        return result


def _serve(pipe: Connection, prepare: Callable, args: tuple, device: torch.device, imports: Callable | None,
           threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        if imports is not None:
            imports()
        before = peak_bytes(device)
        work = prepare(*args)
        pipe.send(None)
        while True:
            command = pipe.recv()
            pipe.send(work() if command == 'call' else peak_bytes(device) - before)
    except EOFError:  # the other end is closed
        return
    except Exception as error:
        is_mistake = isinstance(error, ValueError | OSError | ImportError)  # or a package is not installed
        pipe.send(error if is_mistake else RuntimeError(traceback.format_exc()))


def peak_memory(prepare: Callable[..., Callable[[], object]], *args: object, device: torch.device,
                calls: int = 2, imports: Callable[[], object] | None = None) -> int:
    """Peak memory in bytes of `prepare(*args)` and `calls` calls of the work that it returns, see `Worker`."""
    with Worker(partial(_without_result, prepare), *args, device=device, imports=imports) as worker:
        for _ in range(calls):
            worker.call()
        return worker.memory()


def _without_result(prepare: Callable, *args: object) -> Callable[[], None]:
    """The same work without its result, which may be a large tensor."""
    work = prepare(*args)

    def call() -> None:
        work()
    return call


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process in bytes; on CUDA, what torch allocated on the device."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    status = Path('/proc/self/status')  # ru_maxrss is inherited from the parent on Linux
    if status.is_file():
        return next(int(line.split()[1]) * 1024 for line in status.read_text('utf-8').splitlines()
                    if line.startswith('VmHWM'))
    import psutil
    memory = psutil.Process().memory_info()
    if (peak := getattr(memory, 'peak_wset', None)) is not None:  # Windows, which has no module resource
        return peak
    import resource
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
