"""Numbers of a step stay on the device until many are fetched at once: `.item()` every step would wait for the GPU."""
from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

# Steps that are kept where nobody drains them, such as in a loop without DeviceLogHook; then the oldest go.
LIMIT = 10_000


class _Value(NamedTuple):
    tensor: Tensor            # () on the device
    wait: Callable | None     # of the sum over all processes, while it is under way
    share: float              # what the sum is multiplied by


_pending: dict[str, deque[_Value]] = defaultdict(lambda: deque(maxlen=LIMIT))


def record(name: str, value: Tensor, *, mean: bool = False) -> None:
    """Keeps a number () of this step, detached, without waiting for the device.

    Args:
        name: what it is, such as 'loss'.
        value: a tensor of one element; it may be overwritten afterwards.
        mean: keep its mean over all processes. All must call this, in the same order; nobody waits here.

    Raises:
        ValueError: the tensor has not one element.
    """
    if value.numel() != 1:
        raise ValueError(f'{name} has the shape {tuple(value.shape)}: one number a step can be recorded, take its mean')
    # A copy: gradients are zeroed and the outputs of a captured CUDA graph are overwritten in place.
    copy = value.detach().reshape(()).float().clone()
    if mean and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        work = dist.all_reduce(copy, async_op=True)
        _pending[name].append(_Value(copy, work.wait, 1 / dist.get_world_size()))
    else:
        _pending[name].append(_Value(copy, None, 1.0))


def drain() -> dict[str, list[float]]:
    """All numbers recorded since the last call by name, in their order, in one transfer for each device."""
    taken = [(name, value) for name, values in _pending.items() for value in values]
    _pending.clear()
    for _, value in taken:
        if value.wait is not None:
            value.wait()
    numbers: dict[str, list[float]] = {}
    for device in dict.fromkeys(value.tensor.device for _, value in taken):
        there = [(name, value) for name, value in taken if value.tensor.device == device]
        fetched = torch.stack([value.tensor for _, value in there]).tolist()
        for (name, value), number in zip(there, fetched, strict=True):
            numbers.setdefault(name, []).append(number * value.share)
    return numbers
