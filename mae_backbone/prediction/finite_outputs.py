"""Checks that the parts of a model compute finite numbers in half precision."""
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

_PARTS = ('backbone', 'neck', 'decode_head', 'rpn_head', 'bbox_head', 'mask_head', 'head')


def check_outputs(model: nn.Module, dtype: str) -> None:
    """Makes the parts of a model raise ValueError if they compute numbers that are not finite.

    float16 ends at 65504, and large models exceed it. Scores that are not finite count as no object, or as the first
    class.
    """
    def check(module: nn.Module, inputs: Any, output: Any) -> None:
        check_finite(module, dtype, output)
    for name, module in model.named_modules():
        if not {*name.split('.')[-2:]}.isdisjoint(_PARTS):  # the part, or its children, such as a list of heads
            module.register_forward_hook(check)


def check_finite(module: nn.Module, dtype: str, output: Any) -> None:
    """Raises ValueError if an output of a module has numbers that are not finite."""
    if not all(bool(value.isfinite().all()) for value in _tensors(output)):
        raise ValueError(f'{type(module).__name__} computes numbers that are not finite in {dtype}: choose '
                         + ('another checkpoint' if dtype == 'float32' else '--dtype bfloat16 or float32'))


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _tensors(value)
