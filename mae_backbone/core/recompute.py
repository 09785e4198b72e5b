"""Layers that keep less for the backward pass: what is cheap to make is made again there."""
import weakref
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

Maker = Callable[[], Tensor]  # makes the same whenever it is called, and cheaply


def linear_of(linear: nn.Module, cheap: Callable[[Tensor], Tensor], x: Tensor, *, recompute: bool = True) -> Tensor:
    """linear(cheap(x)), of which x is kept for the backward pass and cheap(x), such as a norm of it, is not."""
    dtype = autocast_dtype(x)
    # In the type that autocast would make of it for `linear`, which keeps what came out of that.
    return on_made(linear, lambda: cheap(x) if dtype is None else cheap(x).to(dtype), recompute=recompute)


def on_made(function: Callable[..., Tensor], *makers: Maker, recompute: bool = True) -> Tensor:
    """function(*[make() for make in makers]), bit for bit, of which what is made is not kept for the backward pass.

    The same could be had of torch.utils.checkpoint, whose early end spares `function`, for ten times the overhead. Not
    to be used inside of it, where what the makers need would be kept. A compiler decides itself what it keeps.
    """
    made = [make() for make in makers]
    if not recompute or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*made)
    kind, dtype = made[0].device.type, autocast_dtype(made[0])

    # Hooks live as long as what they packed: they must not hold what was made.
    pairs = [(weakref.ref(tensor.untyped_storage()), make) for tensor, make in zip(made, makers, strict=True)]

    def pack(saved: Tensor) -> Tensor | tuple[Maker, torch.Size]:
        storage = saved.untyped_storage()
        make = next((make for made, make in pairs if made() is storage), None)
        return saved if make is None else (make, saved.shape)

    def unpack(packed: Tensor | tuple[Maker, torch.Size]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        make, shape = packed
        available = torch.amp.is_autocast_available(kind)
        same = torch.autocast(kind, dtype, enabled=dtype is not None) if available else nullcontext()
        with torch.no_grad(), same:
            return make().reshape(shape)

    with saved_tensors_hooks(pack, unpack):
        return function(*made)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What autocast makes of the numbers of x; None where it is off, or the device (such as meta) has none."""
    kind = x.device.type
    enabled = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if enabled else None
