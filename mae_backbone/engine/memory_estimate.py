"""Memory that a training step will take at most, computed before it is taken: no tensor of it is allocated."""
import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StepMemory(NamedTuple):
    """Bytes of one process."""

    weights: int
    moments: int  # state of the optimizer
    step: int     # activations, gradients and what is needed in passing, at their peak

    @property
    def total(self) -> int:
        """The peak of a step."""
        return sum(self)


def step_memory(model: nn.Module, loss_of: Callable[[nn.Module], Tensor], optimizer: Optimizer) -> StepMemory:
    """What forward, backward and the moments of an optimizer take, by a step on tensors that have shapes alone.

    Not counted are what PyTorch itself holds (0.3 GB or more), fragments, the buckets of a distributed run (as much as
    the weights) and the processes that load data.

    Args:
        model: is not changed.
        loss_of: the loss () of a step; makes its own inputs, on the device of the model.
        optimizer: whose kind says how much state there is for a weight.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        tensors = {name: fake.from_tensor(value.detach()).requires_grad_(value.requires_grad)
                   for name, value in [*model.named_parameters(), *model.named_buffers()]}
        with _Peak() as seen:
            loss_of(_Called(model, tensors)).backward()
    every = [*model.parameters(), *model.buffers()]
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return StepMemory(sum(t.numel() * t.element_size() for t in every), round(trained * states_per_weight(optimizer)),
                      seen.peak)


def states_per_weight(optimizer: Optimizer) -> float:
    """Numbers that an optimizer keeps for each weight, such as 2 for AdamW, found by one step on a few weights."""
    weight = nn.Parameter(torch.zeros(8, 8))
    weight.grad = torch.ones_like(weight)
    settings = {key: value for key, value in optimizer.defaults.items() if key not in ('fused', 'foreach')}
    same = type(optimizer)([dict(settings, params=[weight])], lr=1e-3)
    same.step()
    states = [value for value in same.state[weight].values() if isinstance(value, Tensor) and value.numel() > 1]
    return sum(value.numel() * value.element_size() for value in states) / (weight.numel() * weight.element_size())


class _Called:
    """A model called with other tensors than its own."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        self.model, self.tensors = model, tensors

    def __call__(self, *args: object, **options: object) -> object:
        return functional_call(self.model, self.tensors, args, options)


class _Peak(TorchDispatchMode):
    """Counts the bytes of what operations allocate, for as long as it lives."""

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

        def gone(_: weakref.ref) -> None:
            self.now -= size
            self.alive.pop(key, None)
        self.alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
