"""The files of configs/, read once."""
import copy
import functools
from pathlib import Path

import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer.base import BaseOptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from mae_backbone.engine.layer_decay import parameter_table

ROOT = Path(__file__).parents[2]


# Suites are lists of runs, not runs: tests/test_transfer_suite.py has them.
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/*.py') if path.parent.name != 'transfer')


CONFIGS = [file for file in FILES if '/_base_/' not in file]


DETECTION = 'configs/detection/mask-rcnn_vitdet-b_100e_coco.py'


def load(file: str) -> Config:
    return copy.deepcopy(read(file))


@functools.cache
def read(file: str) -> Config:
    return Config.fromfile(ROOT / file)


def scope(cfg: Config) -> object:
    """Names in a config are looked up from its scope, as in a run."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine'))


@functools.cache
def model_of(file: str) -> nn.Module:
    """The model without memory for its weights."""
    cfg = load(file)
    with scope(cfg), torch.device('meta'):
        return registry.MODELS.build(cfg.model)


def optimizer_of(file: str, model: nn.Module | None = None) -> BaseOptimWrapper:
    cfg = load(file)
    with scope(cfg):
        return build_optim_wrapper(model or model_of(file), cfg.optim_wrapper)


def look_up(value: object, dotted: str) -> object:
    """The value of `a.b.0.c`, None where it is not set."""
    for key in dotted.split('.'):
        value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
    return value


def settings_of(file: str) -> dict[str, tuple[float, float]]:
    """Name of each trained parameter -> (lr / lr of the head, weight decay)."""
    return parameter_table(model_of(file), optimizer_of(file))


def rates(file: str, steps: int, epoch_length: int | None = None) -> list[float]:
    """The lr of the head at each of the first `steps` iterations."""
    cfg = load(file)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    end = cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters'))  # Runner.build_param_scheduler's default
    with scope(cfg):
        schedulers = [registry.PARAM_SCHEDULERS.build({'end': end} | part, default_args={
            'optimizer': optimizer, 'epoch_length': epoch_length}) for part in cfg.param_scheduler]
    assert not any(scheduler.by_epoch for scheduler in schedulers)  # stepped at every iteration
    optimizer.step()
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return found
