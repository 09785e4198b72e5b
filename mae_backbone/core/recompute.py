"""Layers that recompute cheap inputs in the backward pass instead of storing them."""
import weakref
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

MakeInput = Callable[[], Tensor]  # cheap function that returns the same values in each call


def recompute_linear_input(linear: nn.Module, before: Callable[[Tensor], Tensor], x: Tensor, *,
                           recompute: bool = True) -> Tensor:
    """Returns linear(before(x)), where `before` is a norm or an activation. Stores only x, and recomputes before(x)."""
    dtype = autocast_dtype(x)
    # Autocast would cast the input for `linear`, and store the cast copy: the recomputed one must have that type.
    return recompute_inputs(linear, lambda: before(x) if dtype is None else before(x).to(dtype), recompute=recompute)


def recompute_inputs(function: Callable[..., Tensor], *make_inputs: MakeInput, recompute: bool = True) -> Tensor:
    """Computes function(*[make() for make in make_inputs]), and calls `make` again in the backward pass.

    The result is equal, bit for bit, to the result without recomputation. torch.utils.checkpoint would also recompute
    `function`, with ten times the overhead. Do not use this function inside of torch.utils.checkpoint, where the inputs
    of `make` are stored. With torch.compile, the compiler decides what is stored.

    Args:
        function: differentiable function that stores its inputs, such as a matrix product.
        make_inputs: a function for each input.
        recompute: False to store the inputs as usual.
    """
    inputs = [make() for make in make_inputs]
    if not recompute or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*inputs)
    device_type, dtype = inputs[0].device.type, autocast_dtype(inputs[0])

    # The hooks live as long as the graph. A strong reference to the inputs would keep them in memory.
    pairs = [(weakref.ref(tensor.untyped_storage()), make) for tensor, make in zip(inputs, make_inputs, strict=True)]

    def pack(saved: Tensor) -> Tensor | tuple[MakeInput, torch.Size]:
        storage = saved.untyped_storage()
        make = next((make for reference, make in pairs if reference() is storage), None)
        return saved if make is None else (make, saved.shape)

    def unpack(packed: Tensor | tuple[MakeInput, torch.Size]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        make, shape = packed
        # The backward pass runs outside of the autocast of the forward pass.
        available = torch.amp.is_autocast_available(device_type)
        same = torch.autocast(device_type, dtype, enabled=dtype is not None) if available else nullcontext()
        with torch.no_grad(), same:
            made = make()
            # A kernel may have expanded its input over images, such as a bias.
            return made.reshape(shape) if made.numel() == shape.numel() else made.expand(shape)

    with saved_tensors_hooks(pack, unpack):
        return function(*inputs)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Returns the dtype to which autocast casts x; None if autocast is off or does not support the device of x."""
    device_type = x.device.type
    enabled = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if enabled else None
