"""Steps of an optimizer that nothing spoils: mixed precision, gradient norm, and no step on what is not finite."""
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from mae_backbone.checkpoints.sharding import gather_shards, scatter_shard
from mae_backbone.registry import OPTIM_WRAPPERS
from mae_backbone.utils import device_scalars

DTYPES = ('float32', 'bfloat16', 'float16')


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper that skips steps on gradients that are not finite, and never waits for the device.

    A skipped step leaves weights and optimizer state as they are, bit for bit. What decides about it stays on the
    device, where a fused optimizer reads it (`found_inf`); the norm of the gradients and whether the step was skipped
    go to `device_log`. A loss that is not finite counts as gradients that are not: in a distributed run they spread
    to all processes, which therefore skip together.

    AdamW and Adam take their fused implementation where the device has it. For any other optimizer the host looks at
    the gradients once a step, which the log says.

    Args:
        optimizer: has taken no step yet.
        accumulative_counts, clip_grad: as in mmengine.
        dtype: of autocast: 'float32' for none, 'bfloat16' on CPU, CUDA and MPS, 'float16' (with dynamic scaling of
            the loss) on CUDA.

    Raises:
        ValueError: another dtype, float16 without CUDA or with sharded parameters.
    """

    def __init__(self, optimizer: Optimizer, accumulative_counts: int = 1, clip_grad: dict | None = None, *,
                 dtype: str = 'float32') -> None:
        super().__init__(optimizer, accumulative_counts, None if clip_grad is None else dict(clip_grad))
        parameter = optimizer.param_groups[0]['params'][0]
        self.device_type, self.dtype = parameter.device.type, _checked_dtype(dtype, parameter)
        # bfloat16 has the range of float32: only float16 needs its loss scaled
        self.scaler = torch.amp.GradScaler(self.device_type) if self.dtype == torch.float16 else None
        self.fused = fuse(optimizer)
        if not self.fused:
            print_log(f'{type(optimizer).__name__} has no fused implementation on {self.device_type}: the host waits '
                      'for the gradients in every step, to skip it where they are not finite', logger='current',
                      level=logging.WARNING)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no synchronisation of gradients between the steps of an accumulation."""
        enabled = self.dtype != torch.float32
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype if enabled else None,
                                                          enabled=enabled):
            yield

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Gradients of loss (); all of them are nan where the loss is not finite."""
        loss = loss * torch.where(torch.isfinite(loss.detach()), 1.0, float('nan'))
        (loss if self.scaler is None else self.scaler.scale(loss)).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs) -> None:
        """Clips, and updates the parameters unless a gradient is not finite."""
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = gradient_norm(parameters, (self.clip_grad_kwargs or {}).get('norm_type', 2.0))
        skip = torch.isfinite(norm).logical_not().float()
        device_scalars.record('grad_norm', norm)
        device_scalars.record('skipped', skip)
        divisor = self._clip(parameters, norm)
        if self.fused:
            self.optimizer.found_inf, self.optimizer.grad_scale = skip, divisor
            self.optimizer.step(**kwargs)
            del self.optimizer.found_inf, self.optimizer.grad_scale
        elif not skip.item():
            self.optimizer.step(**kwargs)
        if self.scaler is not None:
            self.scaler.update()

    def _clip(self, parameters: list[nn.Parameter], norm: Tensor) -> Tensor | None:
        """Clips as `clip_grad` says; returns what a fused optimizer has still to divide the gradients by."""
        if not self.clip_grad_kwargs:
            return None
        if self.grad_name == 'grad_value':
            self.clip_func(parameters, **self.clip_grad_kwargs)
            return None
        if not self.fused:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_grad_kwargs['max_norm'], norm)
            return None
        # The inverse of the factor of torch's clip_grad_norm_; the optimizer divides on its way through the gradients.
        return ((norm + 1e-6) / self.clip_grad_kwargs['max_norm']).clamp(min=1.0)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """As in mmengine."""
        super().initialize_count_status(model, init_counts, max_counts)
        # mmengine's schedulers count steps of the optimizer to warn of a wrong order of calls; in an accumulation they
        # rightly step before it.
        self._global_step = max(0, getattr(self, '_global_step', 0))

    def state_dict(self) -> dict:
        """The state of the optimizer, whole in every process where the parameters are sharded: all must call this."""
        state = gather_shards(super().state_dict())
        if self.scaler is not None:
            state['loss_scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes the state of any number of processes, and of an optimizer that was or was not fused."""
        scaling = state_dict.pop('loss_scaler', None)
        if self.scaler is not None and scaling is not None:
            self.scaler.load_state_dict(scaling)
        for group in state_dict['param_groups']:
            group.update({key: self.optimizer.defaults[key] for key in ('fused', 'foreach') if key in group})
        parameters = [p for group in self.optimizer.param_groups for p in group['params']]
        state_dict['state'] = {index: {name: scatter_shard(value, parameters[index]) for name, value in values.items()}
                               for index, values in state_dict['state'].items()}
        super().load_state_dict(state_dict)

    def return_to(self, state_dict: dict) -> None:
        """Takes the moments of an earlier state, and keeps the learning rates of the present."""
        self.zero_grad()
        present = self.optimizer.state_dict()['param_groups']
        state_dict.pop('base_param_settings', None)
        self.load_state_dict(state_dict | dict(param_groups=present))


def gradient_norm(parameters: list[nn.Parameter], norm_type: float = 2.0) -> Tensor:
    """Norm () in float32 of all gradients together, whole where they are sharded, without waiting for the device."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters], norm_type)
    return gather_shards(norm).float()


def fuse(optimizer: Optimizer) -> bool:
    """Makes an optimizer that has taken no step a fused one; False where torch has none, or the user chose otherwise.

    It is what `fused=True` does in torch's constructors, which a config cannot say without knowing the device. Adam's
    alone: a fused SGD whose first step is skipped goes on with momenta that nobody initialized (torch 2.14).
    """
    groups = optimizer.param_groups
    chosen = any(group.get('fused') is False or group.get('foreach') or group.get('differentiable')
                 for group in groups)
    try:
        devices = torch.utils._foreach_utils._get_fused_kernels_supported_devices()
    except AttributeError:  # a private name: where it moves, the usual two
        devices = ['cuda', 'cpu']
    possible = all(p.device.type in devices and torch.is_floating_point(p) for group in groups for p in group['params'])
    if not isinstance(optimizer, (Adam, AdamW)) or chosen or not possible or optimizer.state:
        return False
    for settings in (optimizer.defaults, *groups):
        settings.update(fused=True, foreach=False)
    optimizer._step_supports_amp_scaling = True  # what GradScaler and torch's own checks ask for
    return True


def between_steps(wrapper: OptimWrapper) -> bool:
    """Whether gradients are being accumulated, which a checkpoint saved now would lose."""
    return not isinstance(wrapper, OptimWrapperDict) and not wrapper.should_update()


def _checked_dtype(dtype: str, parameter: Tensor) -> torch.dtype:
    if dtype not in DTYPES:
        raise ValueError(f'dtype={dtype!r} of the optim_wrapper, wanted one of {", ".join(DTYPES)}')
    if dtype == 'float16' and (parameter.device.type != 'cuda' or hasattr(parameter, 'full_tensor')):
        raise ValueError(f'dtype=float16 on {parameter.device.type}, or with sharded parameters: it needs its loss '
                         'scaled, which is only done on CUDA and without sharding: take bfloat16')
    return getattr(torch, dtype)
