"""Optimizer steps with mixed precision and gradient norm, skipped if the gradients are not finite."""
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from mae_backbone.checkpoints.sharding import gather_on_first, scatter_shard, whole
from mae_backbone.registry import OPTIM_WRAPPERS
from mae_backbone.utils import device_scalars

DTYPES = ('float32', 'bfloat16', 'float16')


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper that skips steps with non-finite gradients, and never waits for the device.

    A skipped step leaves weights and optimizer state unchanged, bit for bit. Whether to skip is decided on the device,
    where a fused optimizer reads it (`found_inf`). The norm of the gradients, and whether the step was skipped, go to
    `device_scalars`. A loss that is not finite makes all gradients non-finite. In a distributed run these spread to all
    processes, which therefore skip together.

    AdamW and Adam use their fused implementation if the device has it. With any other optimizer the host has to read
    the norm in every step, which the log says.

    Args:
        optimizer: has not taken a step yet.
        accumulative_counts, clip_grad: as in mmengine.
        dtype: of autocast: 'float32' for none, 'bfloat16' on CPU, CUDA and MPS, 'float16' (with dynamic scaling of
            the loss) on CUDA.

    Raises:
        ValueError: another dtype, or float16 without CUDA or with sharded parameters.
    """

    def __init__(self, optimizer: Optimizer, accumulative_counts: int = 1, clip_grad: dict | None = None, *,
                 dtype: str = 'float32') -> None:
        super().__init__(optimizer, accumulative_counts, None if clip_grad is None else dict(clip_grad))
        parameter = optimizer.param_groups[0]['params'][0]
        self.device_type, self.dtype = parameter.device.type, _checked_dtype(dtype, parameter)
        # bfloat16 has the exponents of float32. Only float16 needs a scaled loss.
        self.scaler = torch.amp.GradScaler(self.device_type) if self.dtype == torch.float16 else None
        self.fused = fuse(optimizer)
        if not self.fused:
            print_log(f'{type(optimizer).__name__} has no fused implementation on {self.device_type}: the host waits '
                      'for the gradients in every step, to skip it if they are not finite', logger='current',
                      level=logging.WARNING)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, and no synchronization of gradients while they are accumulated."""
        enabled = self.dtype != torch.float32
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype if enabled else None,
                                                          enabled=enabled):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Adds the gradients of loss (); all of them are NaN if the loss is not finite."""
        loss = loss * torch.where(torch.isfinite(loss.detach()), 1.0, float('nan'))
        (loss if self.scaler is None else self.scaler.scale(loss)).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Clips the gradients, and updates the parameters unless a gradient is not finite."""
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
        """Clips as `clip_grad` says; returns the divisor of the gradients that a fused optimizer has to apply."""
        if not self.clip_grad_kwargs:
            return None
        if self.grad_name == 'grad_value':
            self.clip_func(parameters, **self.clip_grad_kwargs)
            return None
        if not self.fused:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_grad_kwargs['max_norm'], norm)
            return None
        # The inverse of the factor in torch's clip_grad_norm_. The optimizer reads the gradients anyway, and divides.
        return ((norm + 1e-6) / self.clip_grad_kwargs['max_norm']).clamp(min=1.0)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Initializes the counts of mmengine."""
        super().initialize_count_status(model, init_counts, max_counts)
        # mmengine's schedulers warn if they step before the optimizer. With accumulated gradients that is correct.
        self._global_step = max(0, getattr(self, '_global_step', 0))

    def state_dict(self) -> dict:
        """The state of the optimizer. If it is sharded, all must call this, and process 0 gets it whole on its CPU."""
        state: dict = gather_on_first(super().state_dict())  # type: ignore[assignment]  # a dict stays a dict
        if self.scaler is not None:
            state['loss_scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads a state saved by any number of processes, and by a fused optimizer or another."""
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
        """Loads the moments of an earlier state, and keeps the present learning rates."""
        self.zero_grad()
        groups = self.optimizer.state_dict()['param_groups']
        state_dict.pop('base_param_settings', None)
        self.load_state_dict(state_dict | dict(param_groups=groups))


def gradient_norm(parameters: list[nn.Parameter], norm_type: float = 2.0) -> Tensor:
    """Norm () in float32 of all gradients together, sharded or not, without waiting for the device."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], norm_type)
    return whole(norm).float()


def fuse(optimizer: Optimizer) -> bool:
    """Switches an optimizer that has taken no step to its fused implementation, as `fused=True` of torch does.

    A config cannot set `fused=True` without knowing the device. Only Adam and AdamW: a fused SGD whose first step is
    skipped continues with momenta that were never initialized (torch 2.14).

    Returns:
        False if torch has no fused implementation, or if the user chose another one.
    """
    groups = optimizer.param_groups
    chosen = any(group.get('fused') is False or group.get('foreach') or group.get('differentiable')
                 for group in groups)
    try:
        devices = torch.utils._foreach_utils._get_fused_kernels_supported_devices()
    except AttributeError:  # a private name, which may move: then the two devices that have had it for long
        devices = ['cuda', 'cpu']
    possible = all(p.device.type in devices and torch.is_floating_point(p) for group in groups for p in group['params'])
    if not isinstance(optimizer, (Adam, AdamW)) or chosen or not possible or optimizer.state:
        return False
    for settings in (optimizer.defaults, *groups):
        settings.update(fused=True, foreach=False)
    optimizer._step_supports_amp_scaling = True  # read by GradScaler and by torch's own checks
    return True


def between_steps(wrapper: OptimWrapper) -> bool:
    """True if gradients are being accumulated; a checkpoint saved now would lose them."""
    return not isinstance(wrapper, OptimWrapperDict) and not wrapper.should_update()


def _checked_dtype(dtype: str, parameter: Tensor) -> torch.dtype:
    if dtype not in DTYPES:
        raise ValueError(f'dtype={dtype!r} of the optim_wrapper, expected one of {", ".join(DTYPES)}')
    if dtype == 'float16' and (parameter.device.type != 'cuda' or hasattr(parameter, 'full_tensor')):
        raise ValueError(f'dtype=float16 on {parameter.device.type}, or with sharded parameters: it needs its loss '
                         'scaled, which is only done on CUDA and without sharding: take bfloat16')
    return getattr(torch, dtype)
