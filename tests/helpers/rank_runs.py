"""Trainings in several processes, and in one process on the batches of all of them.

A run is a dict of

- task: 'detection', 'segmentation' or 'classification';
- name: of its folder; a run continues an earlier one of the same name;
- world: number of processes;
- mode: of one process that trains on the items of two, drawn with the seeds of the two. 'joined', both in one batch,
  for losses that are means over images or pixels; 'in_turn', one batch after the other, whose gradients are
  accumulated, for losses that are normalized by objects;
- iterations, accumulate: of a process of two;
- options: of the config;
- signal: sent to the last process once it trains.
"""
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any

from helpers.micro_runs import finish, fork, free_port, run_config, warm_up, write_data
from mmengine.config import Config
from torch.utils.data import DataLoader

from mae_backbone.data.counter_rng import hashed
from mae_backbone.data.seeded import SeededBatches, SeededItems, seed_everything
from mae_backbone.engine import loops

RANKS = 2
# A fixed learning rate, and as little as possible that is random.
FIXED: dict[str, Any] = dict(param_scheduler=None, val_cfg=None, val_dataloader=None, val_evaluator=None,
                             auto_scale_lr=None)
TASKS: dict[str, dict[str, Any]] = {
    'detection': {'optim_wrapper.optimizer.lr': 2e-4},  # at 1e-3 rounding grows to 2e-5 within four steps
    'segmentation': {'model.backbone.drop_path_rate': 0.0, 'model.decode_head.dropout_ratio': 0.0,
                     'model.auxiliary_head.dropout_ratio': 0.0},
    # 11 images, 8 a step: 6 for each process, in batches of 4 and 2.
    'classification': {'model.backbone.drop_path_rate': 0.0, 'train_dataloader.batch_size': 4,
                       'train_dataloader.drop_last': False}}


class Samplers:
    """The samplers of all processes as one."""

    def __init__(self, samplers: list) -> None:
        self.__dict__['samplers'] = samplers

    def __getattr__(self, name: str) -> Any:
        values = [getattr(sampler, name) for sampler in self.samplers]
        return (lambda *args: [value(*args) for value in values]) if callable(values[0]) else values[0]

    def __setattr__(self, name: str, value: Any) -> None:
        for sampler in self.samplers:
            setattr(sampler, name, value)


class BatchesOfRanks:
    """The batches of all processes, with their seeds: `joined` to one, or each `in_turn`."""

    def __init__(self, parts: list[SeededBatches], *, joined: bool) -> None:
        self.parts, self.joined, self.seed, self.number, self.skip = parts, joined, parts[0].seed, 0, 0
        self.sampler = Samplers([part.sampler for part in parts])

    def __len__(self) -> int:
        return len(self.parts[0]) * (1 if self.joined else len(self.parts))

    def __iter__(self) -> Iterator[list]:
        share = 1 if self.joined else len(self.parts)
        for part in self.parts:
            part.number, part.skip, part.seed = self.number // share, self.skip // share, self.seed
        self.skip = 0
        for batches in zip(*self.parts, strict=True):
            yield from [list(chain(*batches))] if self.joined else batches


def pretend_ranks(mode: str) -> None:
    """Lets the loops of this process train on the batches of all ranks, 'joined' or 'in_turn'."""
    def make_seeded(loader: DataLoader, *, seed: int, rank: int = 0) -> BatchesOfRanks:
        parts = []
        for number in range(RANKS):
            batches, sampler = copy(loader.batch_sampler), copy(loader.sampler)
            sampler.rank, sampler.world_size = number, RANKS
            if hasattr(sampler, '_indices_of_rank'):  # InfiniteSampler
                sampler.indices = sampler._indices_of_rank()
            else:
                sampler.num_samples = -(-len(loader.dataset) // RANKS)
                sampler.total_size = RANKS * sampler.num_samples
            batches.sampler = sampler
            parts.append(SeededBatches(batches, seed=seed, rank=number))
        loader.dataset.__getitems__ = SeededItems(loader.dataset)
        loader.__dict__['batch_sampler'] = BatchesOfRanks(parts, joined=mode == 'joined')
        return loader.batch_sampler

    def seed_iteration(self: Any) -> None:
        step, rank = (self._iter, 0) if mode == 'joined' else divmod(self._iter, RANKS)
        seed_everything(int(hashed(self.batches.seed, step, rank, -1)[0] >> 1))
    loops.make_seeded, loops._SeededLoop._seed_iteration = make_seeded, seed_iteration


def config_of(run: dict, folder: Path, data: Path) -> Config:
    """The config of a run; `iterations` are those of a process of two."""
    mode, options = run.get('mode'), FIXED | TASKS[run['task']] | run.get('options', {})
    iterations, accumulate = run['iterations'], run.get('accumulate', 1)
    if mode == 'in_turn':
        iterations, accumulate = RANKS * iterations, RANKS * accumulate
    cfg = run_config(run['task'], folder / run['name'], data, iterations=iterations, accumulate=accumulate,
                     save_every=1 if 'signal' in run else iterations, **options)
    if cfg.train_cfg.type == 'EpochBasedTrainLoop':
        cfg.train_cfg.max_epochs = iterations // 2  # of 2 steps
    cfg.launcher = 'pytorch' if run['world'] > 1 else 'none'
    return cfg


def start(run: dict, folder: Path, data: Path) -> list[int]:
    """Forks the processes of a run; their logs end in .0 and .1."""
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), WORLD_SIZE=str(run['world']))
    if 'mode' in run:
        before = loops.make_seeded, loops._SeededLoop._seed_iteration
        pretend_ranks(run['mode'])
    pids = []
    for rank in range(run['world']):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        log = folder / f'{run["name"]}.{rank}'
        log.unlink(missing_ok=True)
        pids.append(fork(config_of(run, folder, data), log, explained='signal' in run))
    if 'mode' in run:
        loops.make_seeded, loops._SeededLoop._seed_iteration = before
    return pids


def take(run: dict, folder: Path, data: Path) -> dict:
    """Takes a run to its end: exit codes, and the losses of each process by iteration."""
    log, pids = folder / f'{run["name"]}.0', start(run, folder, data)
    if 'signal' in run:  # to the last process, once it trains
        while 'Saving checkpoint' not in _text(log):
            time.sleep(0.02)
        began = time.monotonic()
        os.kill(pids[-1], run['signal'])
        codes = [finish(pids[0])]
        seconds = time.monotonic() - began
        os.kill(pids[-1], signal.SIGKILL)
        codes.append(finish(pids[-1]))
        return dict(codes=codes, seconds=seconds, text=_text(log)[-2000:])
    codes = [finish(pid) for pid in pids]
    if any(codes):
        raise RuntimeError(f'{run} ended with {codes}: {_text(log)[-3000:]}')
    return dict(codes=codes, losses=[json.loads(_text(Path(f'{log.with_suffix("")}.{rank}.json')))
                                     for rank in range(run['world'])])


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ''


def answer(folder: str, runs: list[dict]) -> list[dict]:
    """All runs, one after the other."""
    answers, data, root = [], {}, Path(folder)
    for run in runs:
        if run['task'] not in data:
            data[run['task']] = write_data(run['task'], root / run['task'])
            warm_up(config_of(dict(run, name=f'warm_{run["task"]}', world=1), root, data[run['task']]))
        began = time.monotonic()
        answers.append(take(run, root, data[run['task']]))
        print(run['name'], round(time.monotonic() - began, 1), file=sys.stderr, flush=True)
    return answers
