"""Sharded training of models that do not fit in each process (FSDP2), with checkpoints for any number of processes."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from mae_backbone.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class FullyShard(nn.Module):
    """Splits parameters, gradients and optimizer state over all processes (torch's FSDP2).

    In a config, or after --cfg-options::

        model_wrapper_cfg = dict(type='mae_backbone.FullyShard')

    Each block of a transformer, that is each item of a ModuleList, is gathered when it is needed. Names and global
    shapes of the parameters do not change, so that optimizer constructors and checkpoints are the same as on one
    device.

    Args:
        module: the model, on its device. All processes get the weights of process 0.
        param_dtype: 'bfloat16' gathers the blocks in it, for half of the traffic; gradients are averaged in float32.
        reshard_after_forward: False keeps the blocks gathered between forward and backward pass: faster, with more
            memory.
    """

    module: BaseModel

    def __init__(self, module: BaseModel, *, param_dtype: str | None = None,
                 reshard_after_forward: bool = True) -> None:
        super().__init__()
        if hasattr(module, 'init_weights'):
            module.init_weights()  # the Runner would do it after sharding
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, src=0)
        device = next(module.parameters()).device.type
        mesh = init_device_mesh(device, (dist.get_world_size(),))
        # Inputs keep their dtype: the target of a MAE is computed from them.
        policy = MixedPrecisionPolicy(param_dtype=getattr(torch, param_dtype) if param_dtype else None,
                                      reduce_dtype=torch.float32, cast_forward_inputs=False)
        # timm has the blocks of a VisionTransformer in a Sequential.
        blocks = [block for name, layers in module.named_modules() if isinstance(layers, nn.ModuleList)
                  or (isinstance(layers, nn.Sequential) and name.endswith('vit.blocks')) for block in layers]
        for unit in (*blocks, module):
            fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> object:
        """Calls the model."""
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Does not average gradients over processes, between the steps of an accumulation."""
        self.module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)

    def train_step(self, data: dict | tuple | list, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Takes a training step, as MMEngine's BaseModel and its distributed wrapper do."""
        with optim_wrapper.optim_context(self):
            data = self.module.data_preprocessor(data, True)
            losses = self.module._run_forward(data, mode='loss')
        loss, numbers = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return numbers

    def val_step(self, data: dict | tuple | list) -> list:
        """Predicts for validation."""
        return self.module.val_step(data)

    def test_step(self, data: dict | tuple | list) -> list:
        """Predicts for testing."""
        return self.module.test_step(data)
