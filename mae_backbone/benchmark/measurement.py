"""The machine: what it is, how fast it multiplies matrices, how much memory a piece of work takes at its peak."""
import platform
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch

_SIGKILL = 9  # which the module signal lacks on Windows


def describe(device: torch.device) -> dict:
    """Name of the processor, threads, versions."""
    return {'device': device_name(device), 'threads': torch.get_num_threads(), 'torch': torch.__version__,
            'load': round(psutil.getloadavg()[0], 1)}


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


def memory_left(device: torch.device) -> int:
    """Bytes that are free on the device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == 'cuda' else psutil.virtual_memory().available


def matmul_peak(dtype: torch.dtype, device: torch.device, *, repeats: int = 5) -> float:
    """FLOP/s of the best of some multiplications of large square matrices: what the machine can do, not its data sheet.

    Called in every round of a benchmark, so that it meets the same load of the machine.
    """
    size = 8192 if device.type == 'cuda' else 1536
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = [seconds(lambda: a @ b, device) for _ in range(1 + repeats)][1:]
    return 2 * size**3 / min(times)


class Worker:
    """Work in a process of its own, so that nothing else counts in its memory, and its imports meet no others.

    Args:
        prepare: prepare(*args) there returns the work. What it raises is raised here.
        device: whose memory counts.
        imports: called there before; what it takes is not counted.

    Raises:
        ValueError: the process was killed, as by a system that is short of memory.
        RuntimeError: it ended in another way without an answer.
    """

    def __init__(self, prepare: Callable[..., Callable[[], object]], *args: object, device: torch.device,
                 imports: Callable[[], object] | None = None) -> None:
        context = get_context('spawn')
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, daemon=True, args=(
            theirs, prepare, args, device, imports, torch.get_num_threads()))
        self.process.start()
        theirs.close()
        self._answer()

    def __enter__(self) -> 'Worker':
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()  # which ends it
        self.process.join()

    def call(self) -> object:
        """Does the work once -> what it returned."""
        self.pipe.send('call')
        return self._answer()

    def memory(self) -> int:
        """Bytes that preparation and work took at their peak; on CUDA what torch allocated on the device."""
        self.pipe.send('memory')
        return self._answer()

    def _answer(self) -> object:
        try:
            answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            if self.process.exitcode == -_SIGKILL:
                raise ValueError('the process that measures was killed, most often for want of memory: choose a '
                                 'smaller --batch, image size or model') from None
            raise RuntimeError(f'the process that measures ended with exit code {self.process.exitcode}') from None
        if isinstance(answer, Exception):
            raise answer
        return answer


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
            order = pipe.recv()
            pipe.send(work() if order == 'call' else peak_bytes(device) - before)
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        pipe.send(error if isinstance(error, ValueError | OSError) else RuntimeError(traceback.format_exc()))


def peak_memory(prepare: Callable[..., Callable[[], object]], *args: object, device: torch.device,
                calls: int = 2) -> int:
    """Bytes that `prepare(*args)`, and what it returns called `calls` times, take at their peak, see `Worker`."""
    with Worker(partial(_silent, prepare), *args, device=device) as worker:
        for _ in range(calls):
            worker.call()
        return worker.memory()


def _silent(prepare: Callable, *args: object) -> Callable[[], None]:
    """The same work without an answer, which may be a large tensor."""
    work = prepare(*args)

    def silent() -> None:
        work()
    return silent


def peak_bytes(device: torch.device) -> int:
    """Bytes that this process had at its peak."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    status = Path('/proc/self/status')  # ru_maxrss is inherited from the parent on Linux
    if status.is_file():
        return next(int(line.split()[1]) * 1024 for line in status.read_text('utf-8').splitlines()
                    if line.startswith('VmHWM'))
    memory = psutil.Process().memory_info()
    if hasattr(memory, 'peak_wset'):  # Windows, which has no module resource
        return memory.peak_wset
    import resource
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
