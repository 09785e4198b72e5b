"""How many processes load images: measured where a config says num_workers='auto'."""
import math
import os
import shutil
import time
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import torch
from mmengine.config import ConfigDict
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS
from torch import nn

from mae_backbone.data.sampler import Draw
from mae_backbone.data.unlabeled import UnlabeledImages
from mae_backbone.utils.cpu import available_processors, system_file

_MARGIN = 1.5  # images load unevenly, and a compiled model is faster than the one that is measured
_SHARE_OF_MEMORY = 0.25  # that batches may wait in


class Machine(NamedTuple):
    """What there is for one of the training processes here."""

    processors: int
    memory: int  # bytes in which batches can wait for the training

    @classmethod
    def own_share(cls) -> 'Machine':
        processes = local_processes()
        return cls(max(1, available_processors() // processes), free_memory() // processes)


class Choice(NamedTuple):
    """Options of the DataLoader."""

    num_workers: int
    prefetch_factor: int
    pin_memory: bool


def tune(loader: ConfigDict, model: nn.Module, *, seconds: float = 2.0) -> str:
    """Replaces num_workers='auto' of a train_dataloader, and what goes with it; returns a line for the plan.

    What the training sees does not depend on the choice, nor does the measurement draw random numbers from torch.

    Args:
        loader: config of the dataloader, with a data set that makes batches of `Draw`.
        model: takes batches of it; its step is measured too, forward and backward.
        seconds: about how long each of the two measurements takes.
    """
    if loader.get('num_workers') != 'auto':
        return f'loader: {loader.get("num_workers", 0)} workers, as the config says'
    dataset, machine = DATASETS.build(loader.dataset), Machine.own_share()
    loads = loading_rate(dataset, loader.batch_size, seconds)
    device = next(model.parameters()).device
    needs = step_rate(model, dataset, loader.batch_size if device.type == 'cuda' else min(4, loader.batch_size),
                      seconds)
    batch = dataset.__getitems__([Draw(0, 0)])['inputs'].nbytes * loader.batch_size
    choice = choose(loads, needs, batch, machine, pin=device.type == 'cuda')
    loader.update(choice._asdict())
    loader.setdefault('persistent_workers', True)
    pinned = ', pinned' if choice.pin_memory else ''
    line = (f'loader: {choice.num_workers} workers, {choice.prefetch_factor} batches ahead each{pinned}: one loads '
            f'{loads:,.0f} images/s, a step takes {needs:,.0f}/s, {machine.processors} processors for this process')
    if choice.num_workers * loads < needs:
        line += ('; the loader will be what limits: pack the images with tools/pack.py, use more processors, or lower '
                 'the cost of decoding by smaller files')
    return line


def choose(loads: float, needs: float, batch: int, machine: Machine, *, pin: bool) -> Choice:
    """Workers enough for what a step needs, within the processors and the memory that there are.

    Args:
        loads: images/s of one worker.
        needs: images/s of the training.
        batch: bytes.
        machine: what there is.
        pin: whether batches go to a GPU.
    """
    # One processor stays with the process that trains, which launches the kernels, or is the one that computes.
    workers = min(math.ceil(_MARGIN * needs / loads), max(1, machine.processors - 1))
    waiting = max(1, int(_SHARE_OF_MEMORY * machine.memory) // max(1, batch))  # batches
    workers = max(1, min(workers, waiting))
    # Two each, as torch does; more where few workers must cover an image that takes long.
    return Choice(workers, max(1, min(2 if workers > 2 else 4, waiting // workers)), pin)


def loading_rate(dataset: UnlabeledImages, batch_size: int, seconds: float) -> float:
    """Images/s of one worker, measured here with one thread, on images spread over the set."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        dataset.__getitems__(_spread(dataset, 0, 2))  # the first ones load libraries
        made, start = 0, time.perf_counter()
        while not made or time.perf_counter() - start < seconds:
            dataset.__getitems__(_spread(dataset, made, min(8, batch_size)))
            made += min(8, batch_size)
        return made / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def step_rate(model: nn.Module, dataset: UnlabeledImages, batch_size: int, seconds: float) -> float:
    """Images/s of forward and backward on one batch; leaves the model and the random numbers as they were."""
    batch = dataset.__getitems__(_spread(dataset, 0, batch_size))
    bare = model.module if is_model_wrapper(model) and hasattr(model, 'module') else model
    device = next(model.parameters()).device
    devices = [device] if device.type == 'cuda' else []
    dtype = torch.bfloat16 if device.type == 'cuda' and torch.cuda.is_bf16_supported() else None
    with torch.random.fork_rng(devices), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        _step(bare, batch)  # the first one makes plans and room
        done, start = 0, time.perf_counter()
        while not done or (time.perf_counter() - start < seconds and done < 10):
            _step(bare, batch)
            done += 1
        spent = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return batch_size * done / spent


def _step(model: nn.Module, batch: dict) -> None:
    model(**model.data_preprocessor(dict(batch), True), mode='loss')['loss'].backward()
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()


def _spread(dataset: UnlabeledImages, first: int, number: int) -> Sequence[Draw]:
    """Draws from all over the set, as neighbors are alike; a prime step visits each."""
    return [Draw((i * 7919) % len(dataset), i) for i in range(first, first + number)]


def local_processes() -> int:
    """Training processes on this machine, as torchrun and Slurm tell."""
    for name in ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE'):
        if os.environ.get(name, '').isdigit():
            return max(1, int(os.environ[name]))
    return 1


def free_memory() -> int:
    """Bytes that batches may wait in: free memory, of the container and of the shared kind, which is often small."""
    limits = [int(line.split()[1]) * 1024 for line in system_file('/proc/meminfo').splitlines()
              if line.startswith('MemAvailable')]
    most, used = system_file('/sys/fs/cgroup/memory.max').strip(), system_file('/sys/fs/cgroup/memory.current').strip()
    if most.isdigit() and used.isdigit():
        limits.append(int(most) - int(used))
    if os.path.isdir('/dev/shm'):
        limits.append(shutil.disk_usage('/dev/shm').free)
    return max(0, min(limits, default=2**33))
