"""The training step of any two configs, of ours or of mmdet and mmseg, on the same random batch."""
import argparse
import importlib
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mae_backbone.benchmark.batches import Shape, synthetic_batch
from mae_backbone.benchmark.measurement import Worker, describe
from mae_backbone.benchmark.report import Report, Side, in_turns, median_parts, spread, table
from mae_backbone.benchmark.step import Clock
from mae_backbone.utils.config_files import find_config

Answer = tuple[dict[str, float], dict[str, float]]  # seconds of the parts of a step, other numbers


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """-> what was found, and a table of it."""
    report = measure(args)
    return report.to_dict(), table(report)


def measure(args: argparse.Namespace) -> Report:
    """Runs both in turns, each in a process of its own.

    Raises:
        FileNotFoundError, ValueError: a config that does not exist, or is of no known kind; sizes that are not known.
    """
    paths, device = [find(args.config), find(args.against)], torch.device(args.device)
    configs = [Config.fromfile(path, import_custom_modules=False) for path in paths]
    shape = shape_of(args, configs)
    with Worker(build, paths[0], shape, device, device=device, imports=partial(load, paths[0])) as ours, \
            Worker(build, paths[1], shape, device, device=device, imports=partial(load, paths[1])) as baseline:
        answers: tuple[list[Answer], list[Answer]] = [], []

        def timed(i: int) -> float:
            answers[i].append((ours, baseline)[i].call())
            return sum(answers[i][-1][0].values())
        times = in_turns(partial(timed, 0), partial(timed, 1), rounds=args.rounds, warmup=args.warmup)
        memory = ours.memory(), baseline.memory()
    sides = [Side(shape.images / statistics.median(times[i]), memory[i], settings(configs[i], shape, args.rounds),
                  median_parts([parts for parts, _ in answers[i][args.warmup:]]), answers[i][-1][1]) for i in (0, 1)]
    return Report('train', describe(device), *sides, spread(*times))


def find(name: str) -> str:
    """A name or path of a config, or 'mmseg::PATH' of one that comes with an installed package -> its file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    package, _, inside = name.rpartition('::')
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or package == 'mae_backbone':
        return str(find_config(name))
    path = Path(spec.origin).parent / '.mim' / 'configs' / inside
    if not path.is_file():
        raise FileNotFoundError(f'config {name} does not exist, it would be {path}')
    return str(path)


def shape_of(args: argparse.Namespace, configs: list[Config]) -> Shape:
    """What both are trained on: the options, or what the first config says. Raises ValueError where it does not."""
    first = configs[0]
    size = args.image_size or next(_values(first.get('model', {}), 'data_preprocessor', 'size'), None) \
        or first.get('crop_size') or next(_values(first.get('model', {}), 'batch_augments', 'size'), None) \
        or next(_values(first.get('model', {}), 'image_size'), None)
    batch = args.batch or first.get('train_dataloader', {}).get('batch_size')
    if not size or not batch:
        raise ValueError(f'{args.config} does not say how large its images and batches are: give --image-size and '
                         '--batch')
    size = [size] if isinstance(size, int) else list(size)
    classes = args.num_classes or min([*_values([config.get('model', {}) for config in configs], 'num_classes'), 1000])
    return Shape(batch, (size[0], size[-1]), max(classes, 1))


def _values(part: object, *keys: str) -> Iterator[object]:
    """What stands at the last of the keys, below the others, anywhere in a nested config."""
    if isinstance(part, list | tuple):
        for one in part:
            yield from _values(one, *keys)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == keys[0] and len(keys) == 1:
                yield value
            else:
                yield from _values(value, *(keys[1:] if key == keys[0] else keys))


def settings(cfg: Config, shape: Shape, rounds: int) -> dict:
    """What a side was run with."""
    H, W = shape.size
    backbone = cfg.model.get('backbone') or cfg.model.get('encoder') or {}
    return {'config': Path(cfg.filename).name, 'model': cfg.model.type, 'backbone': backbone.get('type', '-'),
            'images': f'{shape.images} of {H}x{W}', 'classes of the labels': shape.classes,
            'optimizer': f'{cfg.optim_wrapper.type}, {cfg.optim_wrapper.optimizer.type}', 'rounds': rounds}


def load(path: str) -> Config:
    """The config in its scope, with all that it may name imported."""
    cfg = Config.fromfile(path)
    scope = cfg.get('default_scope') or 'mmengine'
    init_default_scope(scope)
    if scope in ('mmdet', 'mmseg'):
        importlib.import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    return cfg


def build(path: str, shape: Shape, device: torch.device) -> Callable[[], Answer]:
    """Model and optimizer of a config, from random weights -> a step on one batch, as MMEngine's Runner takes it."""
    torch.manual_seed(0)
    cfg = load(path)
    model = MODELS.build({'data_preprocessor': cfg.get('data_preprocessor')} | cfg.model)
    model = revert_sync_batchnorm(model).to(device).train()  # as the Runner does in a single process
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, accumulative_counts=1))
    batch = synthetic_batch(model, shape)

    def step() -> Answer:
        clock = Clock(device)
        with wrapper.optim_context(model):
            data = model.data_preprocessor(batch.copy(), True)
            loss, _ = model.parse_losses(model._run_forward(data, mode='loss'))
        clock.lap('forward')
        wrapper.backward(wrapper.scale_loss(loss))
        clock.lap('backward')
        wrapper.step()
        wrapper.zero_grad()
        clock.lap('optimizer')
        return clock.parts, {'loss': loss.item(), 'parameters': float(sum(p.numel() for p in model.parameters()))}
    return step
