"""Signals that ask a run to stop, in the main process and in the workers that load its data."""
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType

from torch.utils.data import DataLoader

# Schedulers send SIGTERM, Slurm can send SIGUSR1 before the time limit, Ctrl-C is SIGINT. Windows lacks SIGUSR1.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1', 'SIGINT') if hasattr(signal, name))
_WORKER_SECONDS = 60  # that a worker outlives its first SIGTERM


def protect_workers(loader: DataLoader) -> None:
    """Lets the workers of a loader survive the signals that only concern the main process, see `start_worker`."""
    loader.worker_init_fn = partial(start_worker, loader.worker_init_fn)


def start_worker(init: Callable[[int], None] | None, worker: int) -> None:
    """`worker_init_fn` of a DataLoader whose workers survive the signals that only concern the main process.

    A scheduler sends SIGTERM to all processes, but the main process needs its batches until it has saved. A worker
    therefore ignores the first SIGTERM and ends by the second, which the DataLoader sends, or a minute later.

    Args:
        init: another `worker_init_fn` to call, or None.
        worker: number of the worker.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _ignore_once if number == signal.SIGTERM else signal.SIG_IGN)
    if init is not None:
        init(worker)


def _ignore_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(_WORKER_SECONDS)
