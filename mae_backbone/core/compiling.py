"""Applies torch.compile separately to the blocks of a Transformer and to the loss of a MAE.

Compiling parts instead of the whole step keeps the overlap of DDP's gradient buckets, and of FSDP's gathering, with the
computation. One graph serves all blocks of a kind. Masks and dropped paths are drawn outside of the parts, so that a
mask ratio that changes causes no compilation, and the random numbers are the same with and without compilation.
"""
import importlib.util
import logging
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn

from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import Block

_LOG = logging.getLogger(__name__)
_MIN_CAPABILITY = (7, 0)  # smallest compute capability of a GPU that triton supports
_MAX_GRIDS = 4            # largest number of grids for which a kind of block with windows or tables is compiled


def compile_model(model: nn.Module, when: bool | str, device: torch.device, **options: Any) -> str:
    """Compiles the parts of a model according to the option `compile` of a config. Returns a line for the log.

    Args:
        model: model, changed in place. Names of parameters and modules do not change.
        when: value of the option: True, False, or 'auto' to compile if it is faster on the device and the compiler
            works.
        device: device of the model.
        options: options of torch.compile, such as `backend` and `mode`.

    Raises:
        ValueError: `when` has another value, or is True and the compiler does not work.
    """
    if when not in ('auto', True, False):
        raise ValueError(f"compile={when!r}, expected 'auto', True or False")
    if not any(isinstance(module, Block) for module in model.modules()):
        return 'torch.compile: off (the model has no blocks of mae_backbone)'
    chosen, why = compiles(when, device, **options)
    if not chosen:
        return f'torch.compile: off ({why})'
    return f'torch.compile: on ({why}), {compile_parts(model, **options)} kinds of parts'


def compiles(when: bool | str, device: torch.device, **options: Any) -> tuple[bool, str]:
    """Decides whether to compile on a device. Returns the decision and its reason.

    Raises:
        ValueError: `when` is True, and the compiler does not work.
    """
    if not when:
        return False, 'set in the config'
    if when == 'auto':
        if device.type != 'cuda':
            # Measured with one thread of a Sapphire Rapids, float32, blocks of ViT-B and of its decoder: 1.00 to 1.01
            # of the time without it, after 45 to 120 s of compiling. Matrix products, which it does not change,
            # dominate.
            return False, f'no gain on {device.type}'
        if importlib.util.find_spec('triton') is None:
            return False, 'it needs triton, which is not installed'
        capability = torch.cuda.get_device_capability(device)
        if capability < _MIN_CAPABILITY:
            return False, f'this GPU has compute capability {capability[0]}.{capability[1]}, it needs 7.0'
    problem = compiler_problem(device, **options)
    if problem is None:
        return True, 'on CUDA with triton' if when == 'auto' else 'set in the config'
    if when == 'auto':
        return False, f'a test does not compile: {problem}'
    raise ValueError(f'compile={when}, but a test does not compile on {device}: {problem}. Install a C compiler '
                     "and the headers of Python, or set compile='auto' to train without where it does not work")


def compiler_problem(device: torch.device, **options: Any) -> str | None:
    """Compiles a tiny function with its gradient, without any cache. Returns the reason if this fails, otherwise None.

    It fails without a C compiler, without the headers of Python, which triton needs, or with a GPU that triton does not
    support.
    """
    def tiny(x: Tensor) -> Tensor:
        return (x * 2 + 1).relu()

    try:
        from torch._inductor.utils import fresh_cache
        x = torch.ones(16, device=device, requires_grad=True)
        with fresh_cache(), torch.enable_grad():
            torch.compile(tiny, fullgraph=True, **options)(x).sum().backward()
    except Exception as error:  # of dynamo, inductor, triton or a compiler
        return _short(error)
    return None


def compile_parts(model: nn.Module, **options: Any) -> int:
    """Compiles the blocks and the loss of a model in place, each at its first call; returns the number of kinds.

    They are compiled where gradients are computed, that is in training. It may be called before or after a model is
    wrapped by DDP or FSDP.
    """
    import torch._dynamo
    # It would split graphs at the buckets of DDP, for a graph of the whole step. Each part is smaller than a bucket.
    torch._dynamo.config.optimize_ddp = False
    parts: dict[tuple, CompiledPart] = {}
    for module in model.modules():
        if isinstance(module, Block):
            by_grid = bool(module.window_size) or hasattr(module, 'residual') or module.attn.rel_pos_h is not None or (
                module.attn.bias_size is not None)
            kind = _kind(module)
            if kind not in parts:
                parts[kind] = CompiledPart(Block.compute, 'a block', by_grid=by_grid, **options)
            module.compiled = parts[kind]
        elif isinstance(module, MAE):
            module.compiled = parts[(id(module),)] = CompiledPart(MAE.masked_error, 'the loss', **options)
    return len(parts)


def _kind(block: Block) -> tuple:
    """Returns the key of a graph. Blocks with equal keys share their graphs."""
    parameters = tuple((name, tuple(p.shape), p.requires_grad) for name, p in block.named_parameters())
    return block.attn.heads, block.window_size, block.shift, block.training, parameters


def _short(error: Exception) -> str:
    """Returns type and first two lines of an error. The first line of a compiler error has only the backend."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f'{type(error).__name__}: {" ".join(lines[:2])}'[:200]


class CompiledPart:
    """A compiled method of a module. If the compilation fails, it runs without compilation and logs one warning.

    Args:
        function: method, whose first argument is the module.
        name: name of the part for messages.
        by_grid: True if the third argument is a grid (h, w) on which the computation depends. A graph is then compiled
            for each of the first four grids, and other grids run without compilation. If False, a second graph for all
            sizes is compiled when the size changes.
        options: options of torch.compile.
    """

    def __init__(self, function: Callable[..., Tensor], name: str, *, by_grid: bool = False, **options: Any) -> None:
        self.function, self.name, self.by_grid = function, name, by_grid
        self.options = {'fullgraph': True, 'dynamic': False if by_grid else None, **options}
        self.compiled: dict[object, Callable[..., Tensor]] = {}
        self.failed = self.told = False

    def __call__(self, module: nn.Module, *args: Any) -> Tensor:
        """Calls the method, compiled if possible."""
        from torch._dynamo.exc import TorchDynamoException
        compiled = None if self.failed else self._compiled_for(args[1] if self.by_grid else None)
        if compiled is None:
            return self.function(module, *args)
        try:
            return compiled(module, *args)
        except TorchDynamoException as error:
            self.failed = True
            _LOG.warning('torch.compile: %s runs without it from here on, %s', self.name, _short(error))
        return self.function(module, *args)

    def _compiled_for(self, grid: tuple[int, int] | None) -> Callable[..., Tensor] | None:
        """Returns the compiled method for a grid; None if there are too many grids."""
        if grid not in self.compiled:
            if len(self.compiled) >= _MAX_GRIDS:
                if not self.told:
                    _LOG.warning('torch.compile: %s is compiled for %d sizes of images, others run without it',
                                 self.name, _MAX_GRIDS)
                self.told = True
                return None
            function = cast(FunctionType, self.function)
            # torch limits the number of compilations per code object, for all models in the process together. Therefore
            # each part gets its own code object.
            own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__,
                               function.__defaults__, function.__closure__)
            self.compiled[grid] = torch.compile(own, **self.options)
        return self.compiled[grid]
