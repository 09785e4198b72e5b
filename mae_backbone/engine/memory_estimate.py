"""Peak memory of a training step, computed without allocating it."""
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mae_backbone.core.decoder import MAEDecoder
from mae_backbone.core.vit import ViT
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.pretrainer import MAEPretrainer


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


class TrainingMemory(NamedTuple):
    """Memory of a training, in one process."""

    step: StepMemory
    complete: bool  # False if the activations of the heads are missing


# Values of `checkpointing`, from the fastest to the one that needs the least memory.
CHECKPOINTING = (0, 4, 3, 2, 1)
_CUDA_RESERVE = 2**29  # bytes for PyTorch's context and for fragmentation: half a gigabyte


def training_memory(model: nn.Module, wrapper: dict, batch: int) -> TrainingMemory | None:
    """Computes the memory of a training step; None for a model without a ViT of this package.

    A pretraining is computed as it runs. Of a classifier the loss is left out, which is small. The heads of a detector
    or segmenter depend on the objects in the images: only backbone and neck are computed, with the weights of all.

    Args:
        model: of the training. It is not changed.
        wrapper: config of its optimizer wrapper.
        batch: images per step.
    """
    vits = [module for module in model.modules() if isinstance(module, ViT)]
    if not vits:
        return None
    vit, device = vits[0], next(model.parameters()).device
    dtype = getattr(torch, wrapper.get('dtype') or 'float32')
    pretrains, classifies = isinstance(model, MAEPretrainer), isinstance(model, ViTClassifier)
    module = model if pretrains or classifies else _Features(model)

    def loss_of(forward: Callable[..., Any]) -> Tensor:
        images = torch.zeros(batch, vit.in_channels, *vit.image_size, device=device)
        with torch.autocast(device.type, None if dtype == torch.float32 else dtype, enabled=dtype != torch.float32):
            if pretrains:
                return forward(images, mode='loss')['loss']
            return forward(images, mode='tensor').float().square().mean() if classifies else forward(images)
    optimizer = OPTIMIZERS.build(dict(wrapper['optimizer'], params=[nn.Parameter(torch.zeros(1))]))
    was_training, decided = model.training, getattr(model, 'compile_decided', True)
    vars(model)['compile_decided'] = True  # a pretrainer would compile now, on tensors without data
    try:
        memory = step_memory(module.train(), loss_of, optimizer)
    finally:
        model.train(was_training)
        vars(model)['compile_decided'] = decided
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    distillation = getattr(model, 'distillation', None)  # its teacher is no submodule
    if distillation is not None:
        weights += sum(p.numel() * p.element_size() for p in distillation.teacher.parameters())
    step = memory._replace(weights=weights, moments=round(trained * states_per_weight(optimizer)))
    return TrainingMemory(step, pretrains or classifies)


def choose_checkpointing(model: nn.Module, wrapper: dict, batch: int, limit: float, *,
                         distributed: bool = False) -> tuple[int, int]:
    """Sets `checkpointing` of the ViT, and of a MAE's decoder, to the fastest value whose step fits into `limit` bytes.

    On CUDA half a gigabyte is reserved for PyTorch, and in a distributed run as much as the trained weights, for the
    buckets of their gradients.

    Returns:
        The value, and the expected bytes.

    Raises:
        ValueError: the model has no ViT of this package, or a step does not fit.
    """
    parts = [module for module in model.modules() if isinstance(module, ViT | MAEDecoder)]
    if not parts:
        raise ValueError('--memory chooses blocks of a ViT of mae_backbone to compute again, and this model has none: '
                         'leave it out, and lower --batch-size')
    reserve = _CUDA_RESERVE if next(model.parameters()).device.type == 'cuda' else 0
    reserve += distributed * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    fixed = needed = 0
    for every in CHECKPOINTING:
        for part in parts:
            part.set_checkpointing(every)
        memory = training_memory(model, wrapper, batch)
        assert memory is not None
        fixed, needed = reserve + memory.step.weights + memory.step.moments, reserve + memory.step.total
        if needed <= limit:
            return every, needed
    fitting = int((limit - fixed) / ((needed - fixed) / batch))
    advice = f'--batch-size {fitting}' if fitting > 0 else 'a smaller model, smaller images, or FSDP on several GPUs'
    raise ValueError(f'a step of {batch} images needs {needed / 2**30:.2f} GB with every block computed again, and '
                     f'--memory is {limit / 2**30:.2f} GB: try {advice}')


class _Features(nn.Module):
    """Backbone and neck of a model, and the mean square of their maps as a loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone: nn.Module = model.get_submodule('backbone')
        self.neck: nn.Module = getattr(model, 'neck', None) or nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        maps = self.neck(self.backbone(images))
        return torch.stack([level.float().square().mean() for level in maps]).sum()


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
