"""Chooses the number of data loading workers for `num_workers='auto'`, from CPUs and memory of this machine."""
import os
import shutil
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.config import ConfigDict

from mae_backbone.utils.cpu import available_cpus
from mae_backbone.utils.memory import available_memory

_MEMORY_FRACTION = 0.25  # fraction of the free memory that loaded batches may take
_IMAGE_SIZE = 1024  # side in pixels that is assumed if the config does not state the image size


class Machine(NamedTuple):
    """Resources of this machine for one of its training processes."""

    cpus: int
    memory: int  # bytes that loaded batches can take before they are used

    @classmethod
    def per_process(cls) -> 'Machine':
        """Divides the machine by the number of its training processes."""
        processes = local_processes()
        return cls(max(1, available_cpus() // processes), free_memory() // processes)


class LoaderOptions(NamedTuple):
    """Options of a DataLoader."""

    num_workers: int
    prefetch_factor: int
    pin_memory: bool


def resolve_num_workers(loader: ConfigDict, *, device: torch.device | str = 'cpu') -> str:
    """Replaces `num_workers='auto'` in the config of a train_dataloader, with the options that depend on it.

    Training does not depend on the result: the random numbers of an image come from its `Draw`.

    Args:
        loader: config of the dataloader; changed in place.
        device: device of the model. Batches for a GPU are pinned.

    Returns:
        A line for the plan of the run.
    """
    if loader.get('num_workers') != 'auto':
        return f'loader: {loader.get("num_workers", 0)} workers, set by the config'
    machine = Machine.per_process()
    options = loader_options(machine, batch_bytes(loader), gpu=torch.device(device).type == 'cuda')
    loader.update(options._asdict())
    loader.setdefault('persistent_workers', True)
    pinned = ', pinned memory' if options.pin_memory else ''
    return (f'loader: {options.num_workers} workers (CPUs for this process: {machine.cpus}), {options.prefetch_factor} '
            f'batches prefetched by each{pinned}')


def loader_options(machine: Machine, batch: int, *, gpu: bool) -> LoaderOptions:
    """Returns the loader options for a machine.

    With a GPU, every CPU but one loads images; the last one launches the kernels. Without one, a quarter of the CPUs
    load: a training step on CPUs takes tens to hundreds of times as long as loading its images.

    Args:
        batch: size of a batch in bytes.
        gpu: whether the model is on a GPU.
    """
    workers = machine.cpus - 1 if gpu else machine.cpus // 4
    waiting = max(1, int(_MEMORY_FRACTION * machine.memory) // max(1, batch))  # batches
    workers = max(1, min(workers, waiting))
    # Two batches for each worker, as in torch. With few workers more are needed if a single image takes long.
    return LoaderOptions(workers, max(1, min(2 if workers > 2 else 4, waiting // workers)), gpu)


def batch_bytes(loader: ConfigDict) -> int:
    """Size of a batch in bytes, computed from the config."""
    dataset = loader.get('dataset', {})
    sizes = [dataset.get('image_size', _IMAGE_SIZE)]
    sizes += [size for _, size in loader.get('batch_sampler', {}).get('image_sizes', ())]
    reader = dataset.get('reader') or {}
    channels = reader.get('channels', 3)
    pixel = (channels if isinstance(channels, int) else len(channels)) * (2 if reader.get('dtype') == 'uint16' else 1)
    return loader.get('batch_size', 1) * pixel * max(map(_pixels, sizes))


def _pixels(size: int | Sequence[int]) -> int:
    return size ** 2 if isinstance(size, int) else size[0] * size[1]


def local_processes() -> int:
    """Number of training processes on this machine, from the variables of torchrun and Slurm."""
    for name in ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE'):
        if os.environ.get(name, '').isdigit():
            return max(1, int(os.environ[name]))
    return 1


def free_memory() -> int:
    """Free memory in bytes for batches: of the machine, the container, and of /dev/shm, which is often small."""
    shared = [shutil.disk_usage('/dev/shm').free] if os.path.isdir('/dev/shm') else []
    return min([available_memory(), *shared])
