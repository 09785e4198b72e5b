"""Builds the model of a checkpoint with a memory limit, without changing the state of the process."""
import copy
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mae_backbone.checkpoints.adapters import drop_adapters
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.compat import manager_lock

manager_lock.install()
# Lock for MMEngine's default scope, which is a global variable of the process. It is reentrant, because a model may
# build another model.
_LOCK = threading.RLock()
# Our choices. A model may allocate `_PER_WEIGHT` elements for each of its weights, and `_TABLES` elements for tables of
# positions and anchors.
_PER_WEIGHT, _TABLES = 4, 2 ** 26
# Functions that draw random numbers. They are replaced, because the weights of the checkpoint overwrite their results.
_IN_PLACE = {Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_, Tensor.exponential_, nn.init.uniform_, nn.init.normal_,
             nn.init.trunc_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_, nn.init.kaiming_uniform_,
             nn.init.kaiming_normal_, nn.init.orthogonal_}
_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full}
_RANDOM: dict[Any, Callable] = {torch.rand: torch.zeros, torch.randn: torch.zeros}


@contextmanager
def default_scope(scope: str | None) -> Iterator[None]:
    """Sets MMEngine's default scope inside the `with` block. Other threads that use this function wait."""
    with _LOCK:
        before = dict(DefaultScope._instance_dict)
        try:
            with DefaultScope.overwrite_default_scope(scope or 'mmengine'):
                yield
        finally:
            DefaultScope._instance_dict.clear()  # MMEngine does not restore the original instances, but copies of them
            DefaultScope._instance_dict.update(before)


class _WithoutRandomness(TorchFunctionMode):
    """Replaces random numbers by zeros in this thread, and limits the number of elements that a model allocates.

    Args:
        limit: largest number of elements.

    Raises:
        CheckpointError: the model allocates more elements.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.allocated = limit, 0

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (),
                           kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in _IN_PLACE:
            tensor = args[0] if args else kwargs['tensor']
            with torch.no_grad():
                return tensor.zero_()
        if function in _FACTORIES or function in _RANDOM:
            self.count(_size(args, kwargs))
        function = _RANDOM.get(function, function)
        result = function(*args, **kwargs)
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            # Views are counted too, because a later operation may copy them.
            if isinstance(tensor, Tensor) and tensor.numel() > self.limit:
                self.count(tensor.numel())
        return result

    def count(self, elements: int) -> None:
        """Counts allocated elements. Raises CheckpointError above the limit."""
        self.allocated += elements
        if self.allocated > self.limit:
            raise CheckpointError(f'the model of the config needs more than {self.limit:,} numbers, many times more '
                                  'than the checkpoint has: the config does not belong to it')


def _size(args: tuple, kwargs: dict) -> int:
    size = kwargs.get('size', args[0] if args and isinstance(args[0], (tuple, list)) else args)
    return math.prod(side for side in size if isinstance(side, int))


def build_model(cfg: Config, weights: Mapping[str, Tensor]) -> nn.Module:
    """Builds the model of a config. Its parameters are zero until weights are loaded.

    The random state, MMEngine's default scope and other state of the process do not change. The model has no low-rank
    adapters. `load_model` merges the adapters of a checkpoint into the weights.

    Args:
        cfg: config with the model.
        weights: weights that will be loaded. Their size determines the memory limit.

    Raises:
        CheckpointError: the model is many times larger than its weights.
    """
    limit = _PER_WEIGHT * sum(value.numel() for value in weights.values()) + _TABLES
    model = copy.deepcopy(cfg.model)
    drop_adapters(model.get('backbone') or {})
    with default_scope(cfg.get('default_scope')), _WithoutRandomness(limit):
        return revert_sync_batchnorm(MODELS.build(model))
