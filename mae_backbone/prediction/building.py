"""Builds a model for a checkpoint in bounded memory, without changing the state of the process."""
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
# MMEngine's default scope is a global variable of the process. The lock is reentrant: a model may build another model.
_LOCK = threading.RLock()
# Our choices. Elements that a model may allocate: a multiple of its weights, and tables of positions and anchors.
_PER_WEIGHT, _TABLES = 4, 2 ** 26
# Functions that draw from torch's generator. The weights of the checkpoint replace their results.
_IN_PLACE = {Tensor.uniform_, Tensor.normal_, Tensor.bernoulli_, Tensor.exponential_, nn.init.uniform_, nn.init.normal_,
             nn.init.trunc_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_, nn.init.kaiming_uniform_,
             nn.init.kaiming_normal_, nn.init.orthogonal_}
_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full}
_RANDOM: dict[Any, Callable] = {torch.rand: torch.zeros, torch.randn: torch.zeros}


@contextmanager
def default_scope(scope: str | None) -> Iterator[None]:
    """Sets MMEngine's default scope while the block runs. Other threads that use this function wait."""
    with _LOCK:
        before = dict(DefaultScope._instance_dict)
        try:
            with DefaultScope.overwrite_default_scope(scope or 'mmengine'):
                yield
        finally:
            DefaultScope._instance_dict.clear()  # MMEngine leaves a copy with copies of the instances
            DefaultScope._instance_dict.update(before)


class _WithoutRandomness(TorchFunctionMode):
    """Replaces random numbers by zeros in this thread, and stops models that allocate too many elements.

    Args:
        limit: number of elements.
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
            if isinstance(tensor, Tensor) and tensor.numel() > self.limit:  # includes views that may be copied next
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
    """Builds the model of a config, for weights that are loaded into it.

    The random state, MMEngine's default scope and other state of the process do not change. Parameters are zero. The
    model has no low-rank adapters. `load_model` adds the adapters of the checkpoint to the weights.

    Raises:
        CheckpointError: the model is many times larger than its weights.
    """
    limit = _PER_WEIGHT * sum(value.numel() for value in weights.values()) + _TABLES
    model = copy.deepcopy(cfg.model)
    drop_adapters(model.get('backbone') or {})
    with default_scope(cfg.get('default_scope')), _WithoutRandomness(limit):
        return revert_sync_batchnorm(MODELS.build(model))
