"""The files of configs/, each read once, and what the tests ask of them."""
import copy
import functools
from pathlib import Path

import pytest
import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.config import utils as mmengine_config
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer.base import BaseOptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from mae_backbone.engine.layer_decay import parameter_table

ROOT = Path(__file__).parents[2]
# Suites of configs/transfer are lists of runs, not runs: the tests of transfer cover them.
FILES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('configs/**/*.py') if path.parent.name != 'transfer')
CONFIGS = [file for file in FILES if '/_base_/' not in file]

PRETRAIN = 'configs/pretrain/mae_vit-b_800e_in1k.py'
FINETUNE = 'configs/classification/vit-b_100e_in1k.py'
LINEAR = 'configs/classification/vit-b_linear_90e_in1k.py'
KNN = 'configs/classification/vit-b_knn_in1k.py'
DETECTION = 'configs/detection/mask-rcnn_vitdet-b_100e_coco.py'
SEGMENTATION = 'configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py'

# To find a base such as `mmdet::x.py`, MMEngine parses all 100 metafiles of mmdet: 0.3 s per base.
mmengine_config.load = functools.cache(mmengine_config.load)

_MODELS: dict[str, nn.Module] = {}


def load(file: str) -> Config:
    """A config that the test may change."""
    return copy.deepcopy(read(file))


@functools.cache
def read(file: str) -> Config:
    """A config that all tests share and none may change."""
    return Config.fromfile(ROOT / file)


def scope(cfg: Config) -> object:
    """Context in which types are looked up from the config's scope, as in a run."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine'))


def model_of(file: str) -> nn.Module:
    """The model on the meta device: shapes without memory. Configs with equal models share it."""
    cfg = read(file)
    if (cfg.model.get('backbone') or {}).get('lora'):
        pytest.importorskip('peft')
    key = repr((cfg.get('default_scope'), cfg.model.to_dict()))
    if key not in _MODELS:
        with scope(cfg), torch.device('meta'):
            _MODELS[key] = registry.MODELS.build(load(file).model)
    return _MODELS[key]


def optimizer_of(file: str, model: nn.Module | None = None) -> BaseOptimWrapper:
    """The optimizer of a config, with the parameter groups of `model` (default: the config's own)."""
    cfg = load(file)
    with scope(cfg):
        return build_optim_wrapper(model or model_of(file), cfg.optim_wrapper)


def look_up(value: object, dotted: str) -> object:
    """The value at a path such as `a.b.0.c`, None if it is not set."""
    for key in dotted.split('.'):
        value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
    return value


def settings_of(file: str) -> dict[str, tuple[float, float]]:
    """Name of each trained parameter -> (learning rate / learning rate of the head, weight decay)."""
    return parameter_table(model_of(file), optimizer_of(file))


def learning_rates(file: str, steps: int, epoch_length: int | None = None) -> list[float]:
    """The learning rate of the head in each of the first `steps` iterations."""
    cfg = load(file)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    end = cfg.train_cfg.get('max_epochs', cfg.train_cfg.get('max_iters'))  # Runner.build_param_scheduler's default
    with scope(cfg):
        schedulers = [registry.PARAM_SCHEDULERS.build({'end': end} | scheduler, default_args={
            'optimizer': optimizer, 'epoch_length': epoch_length}) for scheduler in cfg.param_scheduler]
    assert not any(scheduler.by_epoch for scheduler in schedulers)  # stepped in every iteration
    optimizer.step()
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return rates


def assert_constants(file: str, constants: dict[str, object]) -> None:
    """The values of a config at dotted paths are the expected ones."""
    cfg = read(file)
    actual = {key: look_up(cfg, key) for key in constants}
    assert actual == {key: pytest.approx(value) if isinstance(value, float) else value
                      for key, value in constants.items()}
