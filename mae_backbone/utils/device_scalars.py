"""Scalars that stay on the device until many are read at once; `.item()` in every step would wait for the GPU."""
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

# Steps to keep without a call of `drain`, for example in a loop without DeviceLogHook. Older ones are dropped.
LIMIT = 10_000


class _Value(NamedTuple):
    tensor: Tensor                       # () on the device
    wait: Callable[[], object] | None    # waits for the sum over all processes, None without one
    scale: float                         # factor of the sum


_pending: dict[str, deque[_Value]] = defaultdict(lambda: deque(maxlen=LIMIT))


def record(name: str, value: Tensor, *, mean: bool = False) -> None:
    """Records a scalar of this step, detached, without waiting for the device.

    Args:
        name: such as 'loss'.
        value: tensor with one element. It is copied and may be overwritten afterwards.
        mean: record the mean over all processes. All processes must call this in the same order; no process waits here.

    Raises:
        ValueError: the tensor does not have exactly one element.
    """
    if value.numel() != 1:
        raise ValueError(f'{name} has shape {tuple(value.shape)}, expected one element per step: take its mean')
    # A copy, because gradients are zeroed and outputs of a captured CUDA graph are overwritten in place.
    copy = value.detach().reshape(()).float().clone()
    if mean and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        work = dist.all_reduce(copy, async_op=True)
        assert work is not None
        _pending[name].append(_Value(copy, work.wait, 1 / dist.get_world_size()))
    else:
        _pending[name].append(_Value(copy, None, 1.0))


def drain() -> dict[str, list[float]]:
    """Returns and removes all recorded scalars by name, in order, with one transfer per device."""
    recorded = [(name, value) for name, values in _pending.items() for value in values]
    _pending.clear()
    for _, value in recorded:
        if value.wait is not None:
            value.wait()
    scalars: dict[str, list[float]] = {}
    for device in dict.fromkeys(value.tensor.device for _, value in recorded):
        on_device = [(name, value) for name, value in recorded if value.tensor.device == device]
        numbers = torch.stack([value.tensor for _, value in on_device]).tolist()
        for (name, value), number in zip(on_device, numbers, strict=True):
            scalars.setdefault(name, []).append(number * value.scale)
    return scalars
