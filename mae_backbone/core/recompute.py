"""Layers that recompute cheap inputs in the backward pass instead of storing them."""
import weakref
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

MakeInput = Callable[[], Tensor]  # cheap, and returns the same values whenever it is called


def recompute_linear_input(linear: nn.Module, before: Callable[[Tensor], Tensor], x: Tensor, *,
                           recompute: bool = True) -> Tensor:
    """linear(before(x)); the backward pass stores x and recomputes before(x), such as a norm or an activation."""
    dtype = autocast_dtype(x)
    # Autocast would cast the input for `linear`, and store the cast copy: the recomputed one must have that type.
    return recompute_inputs(linear, lambda: before(x) if dtype is None else before(x).to(dtype), recompute=recompute)


def recompute_inputs(function: Callable[..., Tensor], *make_inputs: MakeInput, recompute: bool = True) -> Tensor:
    """function(*[make() for make in make_inputs]), bit for bit; the backward pass calls `make` again for its inputs.

    torch.utils.checkpoint would recompute `function` as well, at ten times the overhead. Do not use this inside of it:
    there the inputs of `make` would be stored. Under torch.compile the compiler decides what to store.

    Args:
        function: a differentiable function that stores its inputs, such as a matrix product.
        make_inputs: one for each input.
        recompute: False stores the inputs as usual.
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
    """The dtype to which autocast casts x; None if autocast is off or does not know the device, such as meta."""
    device_type = x.device.type
    enabled = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if enabled else None
