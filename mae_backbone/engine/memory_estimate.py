"""Peak memory of a training step, computed without allocating it."""
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StepMemory(NamedTuple):
    """Memory of one process in bytes."""

    weights: int
    moments: int  # state of the optimizer
    step: int     # activations, gradients and temporary tensors, at their peak

    @property
    def total(self) -> int:
        """The peak of a step."""
        return sum(self)


def step_memory(model: nn.Module, loss_of: Callable[[nn.Module], Tensor], optimizer: Optimizer) -> StepMemory:
    """Computes the memory of a training step, by running it on fake tensors, which have shapes but no data.

    Not counted are what PyTorch itself allocates (0.3 GB or more), fragmentation, the buckets of a distributed run (as
    much as the weights) and the processes that load data.

    Args:
        model: is not changed.
        loss_of: computes the loss () of a step; it makes its own inputs, on the device of the model.
        optimizer: its type determines the state that is kept for each weight.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        tensors = {name: fake.from_tensor(value.detach()).requires_grad_(value.requires_grad)
                   for name, value in [*model.named_parameters(), *model.named_buffers()]}
        with _PeakMemory() as memory:
            loss_of(_Functional(model, tensors)).backward()
    all_tensors = [*model.parameters(), *model.buffers()]
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return StepMemory(sum(t.numel() * t.element_size() for t in all_tensors),
                      round(trained * states_per_weight(optimizer)), memory.peak)


def states_per_weight(optimizer: Optimizer) -> float:
    """Numbers that an optimizer keeps for each weight, such as 2 for AdamW, found by a step on a few weights."""
    weight = nn.Parameter(torch.zeros(8, 8))
    weight.grad = torch.ones_like(weight)
    settings = {key: value for key, value in optimizer.defaults.items() if key not in ('fused', 'foreach')}
    kind: Callable[..., Optimizer] = type(optimizer)
    other = kind([dict(settings, params=[weight])], lr=1e-3)
    other.step()
    states = [value for value in other.state[weight].values() if isinstance(value, Tensor) and value.numel() > 1]
    return sum(value.numel() * value.element_size() for value in states) / (weight.numel() * weight.element_size())


class _Functional(nn.Module):
    """Calls a model with other tensors than its own."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.call: Callable[..., Any] = partial(functional_call, model, tensors)

    def forward(self, *args: object, **options: object) -> Any:
        return self.call(args, options)


class _PeakMemory(TorchDispatchMode):
    """Counts the bytes of the storages that operations allocate, as long as they are referenced."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        known = {id(value.untyped_storage()) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and id(value.untyped_storage()) not in known:  # not a view of its inputs
                self._count(value.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.alive and self.alive[key]() is storage:
            return

        def on_free(_: weakref.ref) -> None:
            self.now -= size
            self.alive.pop(key, None)
        self.alive[key] = weakref.ref(storage, on_free)
        self.now += size
        self.peak = max(self.peak, self.now)
