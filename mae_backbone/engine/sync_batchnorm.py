"""Synchronized batch normalization on CPUs, which torch.nn.SyncBatchNorm has on GPUs only."""
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm


def sync_batchnorm_on_cpus(model: nn.Module) -> int:
    """Replaces the torch.nn.SyncBatchNorm of a model by `CPUSyncBatchNorm`, in place; returns their number.

    Names, parameters and buffers stay.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
    for layer in layers:
        layer.__class__ = CPUSyncBatchNorm  # type: ignore[assignment]  # of the same base
    return len(layers)


class CPUSyncBatchNorm(_BatchNorm):
    """Batch normalization with mean and variance over the batches of all processes in training."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f'batch normalization of {tuple(x.shape)}: expected (B, C, ...)')

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) -> the same shape."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        others = [i for i in range(x.ndim) if i != 1]
        values, shape = x.to(torch.promote_types(x.dtype, torch.float32)), (1, -1) + (1,) * (x.ndim - 2)
        sums = _SumOverProcesses.apply(torch.cat([values.sum(others), values.new_tensor([x.numel() / x.shape[1]])]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centered = values - mean.reshape(shape)
        # Two reductions: the mean of squares minus the square of the mean would lose digits.
        variance = _SumOverProcesses.apply(centered.square().sum(others)) / count
        self._update_running(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normalized = centered * (variance + self.eps).rsqrt().reshape(shape)
        if self.affine:
            normalized = normalized * self.weight.reshape(shape) + self.bias.reshape(shape)
        return normalized.to(x.dtype)

    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Updates the running mean and variance with the values of a batch, as torch.nn.BatchNorm2d does."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _SumOverProcesses(Function):
    """Sum over all processes. Each of them needs the gradients of all, and gets their sum."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
