"""Training steps of any two configs, from this package, mmdet or mmseg, or of a peer's code, on random batches."""
import argparse
import importlib
import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mae_backbone.benchmark.batches import Shape, synthetic_batch
from mae_backbone.benchmark.measurement import Clock, Worker, describe
from mae_backbone.benchmark.peers.peer import MissingPeerError, StepResult, TrainPeer
from mae_backbone.benchmark.peers.registry import PEERS as CODE
from mae_backbone.benchmark.peers.registry import find_peer
from mae_backbone.benchmark.report import Report, Side, measure_in_turns, median_parts, round_ratios, table
from mae_backbone.utils.config_files import find_config

# Name for `--against` -> config of the peer.
PEERS = {'mmseg': 'mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py'}
TRAIN_PEERS = CODE['train']  # other code


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the content of its JSON file, and a table."""
    report = measure(args)
    return report.to_dict(), table(report)


def measure(args: argparse.Namespace) -> Report:
    """Measures both in turns, each in its own process.

    Raises:
        FileNotFoundError: a config does not exist.
        MissingPeerError: the code of a peer is missing.
        ValueError: the kind of a model, or the size of its images or batches, is not known.
    """
    is_peer, device = args.against in TRAIN_PEERS, torch.device(args.device)
    paths = [find(name) for name in ((args.config,) if is_peer else (args.config, args.against))]
    configs = [Config.fromfile(path, import_custom_modules=False) for path in paths]
    for path, config in zip(paths, configs, strict=True):
        if not (config.get('model') and config.get('optim_wrapper')):
            raise ValueError(f'{path} has no model or no optimizer: expected the config of a training')
    shape = shape_of(args, configs)
    if is_peer:
        peer: TrainPeer = find_peer('train', args.against, args.peer_root)
        work: tuple = peer.build, shape, device, autocast_dtype(configs[0])
        imports: Callable[[], object] = peer.load
    else:
        work, imports = (build, paths[1], shape, device), partial(load, paths[1])
    with Worker(build, paths[0], shape, device, device=device, imports=partial(load, paths[0])) as ours, \
            Worker(*work, device=device, imports=imports) as baseline:
        results: tuple[list[StepResult], list[StepResult]] = [], []

        def timed(i: int) -> float:
            results[i].append((ours, baseline)[i].call())
            return sum(results[i][-1][0].values())
        times = measure_in_turns(partial(timed, 0), partial(timed, 1), rounds=args.rounds, warmup=args.warmup)
        memory = ours.memory(), baseline.memory()
    used = [settings(config, shape, args.rounds) for config in configs]
    if is_peer:
        used.append(used[0] | peer.settings())
    sides = [Side(shape.images / statistics.median(times[i]), memory[i], used[i],
                  median_parts([parts for parts, _ in results[i][args.warmup:]]), results[i][-1][1]) for i in (0, 1)]
    named = is_peer or args.against in PEERS
    return Report('train', describe(device), sides[0], sides[1], round_ratios(*times),
                  against=args.against if named else Path(configs[1].filename).name)


def autocast_dtype(cfg: Config) -> torch.dtype | None:
    """Type of autocast of a config; None if it trains in float32."""
    wrapper = cfg.optim_wrapper
    default = 'float16' if wrapper.get('type') == 'AmpOptimWrapper' else None
    name = wrapper.get('dtype', default)
    return None if name is None else getattr(torch, name)


def find(name: str) -> str:
    """Finds the file of a config: a name, a path, 'mmseg::PATH' for one of an installed package, or a key of `PEERS`.

    Raises:
        FileNotFoundError: the file does not exist.
        MissingPeerError: the package of a peer is not installed.
    """
    package, _, inside = PEERS.get(name, name).rpartition('::')
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None and name in PEERS:
        raise MissingPeerError(f'--against {name} needs mmseg: python -m pip install onedl-mmsegmentation')
    if spec is None or spec.origin is None or package == 'mae_backbone':
        return str(find_config(name))
    path = Path(spec.origin).parent / '.mim' / 'configs' / inside
    if not path.is_file():
        raise FileNotFoundError(f'config {name} does not exist, it would be {path}')
    return str(path)


def shape_of(args: argparse.Namespace, configs: list[Config]) -> Shape:
    """Shape of the batch: the options, or else the first config. Raises ValueError if neither states it."""
    first = configs[0]
    size = args.image_size or next(_values(first.get('model', {}), 'data_preprocessor', 'size'), None) \
        or first.get('crop_size') or next(_values(first.get('model', {}), 'batch_augments', 'size'), None) \
        or next(_values(first.get('model', {}), 'image_size'), None)
    batch = args.batch or first.get('train_dataloader', {}).get('batch_size')
    if not size or not batch:
        raise ValueError(f'{args.config} does not state the size of its images and batches: give --image-size and '
                         '--batch')
    size = [size] if isinstance(size, int) else list(size)
    models = [config.get('model', {}) for config in configs]
    num_classes = args.num_classes or min([*_values(models, 'num_classes'), 1000])
    return Shape(batch, (size[0], size[-1]), max(num_classes, 1))


def _values(config: object, *keys: str) -> Iterator[Any]:
    """Values of the last of the keys, below the others, anywhere in a nested config."""
    if isinstance(config, list | tuple):
        for item in config:
            yield from _values(item, *keys)
    elif isinstance(config, dict):
        for key, value in config.items():
            if key == keys[0] and len(keys) == 1:
                yield value
            else:
                yield from _values(value, *(keys[1:] if key == keys[0] else keys))


def settings(cfg: Config, shape: Shape, rounds: int) -> dict:
    """Settings of a side, for the table."""
    H, W = shape.size
    backbone = cfg.model.get('backbone') or cfg.model.get('encoder') or {}
    return {'config': Path(cfg.filename).name, 'model': cfg.model.type, 'backbone': backbone.get('type', '-'),
            'images': f'{shape.images} of {H}x{W}', 'classes of the labels': shape.num_classes,
            'optimizer': f'{cfg.optim_wrapper.type}, {cfg.optim_wrapper.optimizer.type}', 'rounds': rounds}


def load(path: str) -> Config:
    """Loads a config, and registers the modules of its scope."""
    cfg = Config.fromfile(path)
    scope = cfg.get('default_scope') or 'mmengine'
    init_default_scope(scope)
    if scope in ('mmdet', 'mmseg'):
        importlib.import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    return cfg


def build(path: str, shape: Shape, device: torch.device) -> Callable[[], StepResult]:
    """Builds model and optimizer of a config from random weights. Returns a step on one batch, as in MMEngine."""
    torch.manual_seed(0)
    cfg = load(path)
    model = MODELS.build({'data_preprocessor': cfg.get('data_preprocessor')} | cfg.model)
    model = revert_sync_batchnorm(model).to(device).train()  # as the Runner does in a single process
    wrapper = build_optim_wrapper(model, dict(cfg.optim_wrapper, accumulative_counts=1))
    batch = synthetic_batch(model, shape)

    def step() -> StepResult:
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
