"""A resumed training gives the losses of an uninterrupted one, for any number of workers, bit for bit."""
import contextlib
import itertools
import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mae_backbone.engine import loops
from mae_backbone.engine.prefetch import one_ahead
from mae_backbone.engine.replacements import guarded
from mae_backbone.engine.runner import Runner

COUNT = itertools.count()
ITERATIONS = 12


class Augmented(Dataset):
    """Items with random numbers of every generator that transforms use."""

    metainfo = {'classes': ('a',)}  # noqa: RUF012

    def __init__(self, number: int = 10) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([index, random.random(), np.random.rand(), float(torch.rand(()))]))


class Model(BaseModel):
    """Draws random numbers in its forward pass, as RoI sampling and dropout do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        nn.init.constant_(self.layer.weight, 0.1)
        nn.init.constant_(self.layer.bias, 0.0)

    def forward(self, inputs: torch.Tensor, mode: str = 'loss') -> dict | list:
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        if mode == 'predict':
            torch.rand(3), np.random.rand(), random.random()  # a validation moves the generators
            return [{}]
        keep = torch.rand(len(inputs), 4) > 0.3
        noise = float(torch.randperm(5)[0]) + np.random.rand() + random.random()
        return dict(loss=((self.layer(inputs * keep) - noise) ** 2).mean())


class Nothing(BaseMetric):
    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return {}


class Stop(Hook):
    """Ends a run in the middle of an iteration, as a kill does."""

    priority = 'VERY_HIGH'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == self.iteration:
            raise KeyboardInterrupt


class TerminateWorkers(Hook):
    """Sends SIGTERM to each worker during a validation, as a scheduler does that stops a job."""

    def __init__(self) -> None:
        self.workers: set[int | None] = set()

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        for process in multiprocessing.active_children():
            if process.pid not in self.workers:
                process.terminate()
            self.workers.add(process.pid)
        time.sleep(0.3)  # torch raises an error as soon as a worker has ended


class Losses(Hook):
    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        self.values[runner.iter] = float(outputs['loss'].detach())


def train(work_dir: Path, *, by_epoch: bool, sampler: str, workers: int = 0, stop: int | None = None,
          seed: int | None = 0, resume: bool = False, validate: bool = False, diff_rank_seed: bool = False,
          optimizer: dict | None = None, hooks: tuple[Hook, ...] = ()) -> dict[int, float]:
    """Losses by iteration of a run that saves every 2 iterations, or every epoch of 5."""
    val = dict(val_cfg=dict(), val_evaluator=Evaluator(Nothing()), val_dataloader=dict(
        dataset=Augmented(4), batch_size=2, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=False)))
    losses = Losses()
    runner = Runner(
        Model(), str(work_dir), experiment_name=f'resumable-{next(COUNT)}', randomness=dict(
            seed=seed, diff_rank_seed=diff_rank_seed),
        train_dataloader=dict(dataset=Augmented(), batch_size=2, num_workers=workers, persistent_workers=workers > 0,
                              sampler=dict(type=sampler)),
        train_cfg=dict(by_epoch=True, max_epochs=3) if by_epoch else dict(
            by_epoch=False, max_iters=ITERATIONS, val_interval=3 if validate else 1000),
        optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer or dict(type='AdamW', lr=0.1)),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=ITERATIONS, by_epoch=False)],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2),
                           checkpoint=dict(type='CheckpointHook', interval=1 if by_epoch else 2, by_epoch=by_epoch)),
        log_processor=dict(by_epoch=by_epoch), resume=resume, load_from=str(work_dir / 'latest') if resume else None,
        custom_hooks=[losses, *hooks, *([] if stop is None else [Stop(stop)])], **(val if validate else {}))
    if resume:
        runner._load_from = (work_dir / 'last_checkpoint').read_text()
    with contextlib.suppress(KeyboardInterrupt):
        runner.train()
    return losses.values


@pytest.mark.parametrize(('by_epoch', 'sampler'), [(False, 'InfiniteSampler'), (False, 'DefaultSampler'),
                                                   (True, 'DefaultSampler')])
def test_losses_after_a_kill_equal_those_without(tmp_path: Path, by_epoch: bool, sampler: str):
    kind = dict(by_epoch=by_epoch, sampler=sampler)
    whole = train(tmp_path / 'whole', **kind)
    losses: dict[int, float] = {}
    for number, stop in enumerate((6, 8, 11, None)):
        losses |= train(tmp_path / 'killed', **kind, workers=0 if number % 2 else 2, stop=stop, resume=number > 0)
    assert len(set(whole.values())) == len(whole) >= ITERATIONS
    assert losses == whole


@pytest.mark.parametrize(('by_epoch', 'sampler'), [(False, 'InfiniteSampler'), (True, 'DefaultSampler')])
def test_batches_that_are_copied_ahead_change_no_loss(tmp_path: Path, by_epoch: bool, sampler: str,
                                                      monkeypatch: pytest.MonkeyPatch):
    """As for a GPU; data are loaded in the main process, with the random generators of the step, and in workers."""
    kind = dict(by_epoch=by_epoch, sampler=sampler)
    whole = train(tmp_path / 'whole', **kind)
    monkeypatch.setattr(loops, 'prefetch', lambda batches, device: one_ahead(batches, lambda batch: lambda: batch))
    losses: dict[int, float] = {}
    for number, stop in enumerate((6, 11, None)):
        losses |= train(tmp_path / 'killed', **kind, workers=number % 2, stop=stop, resume=number > 0)
    assert losses == whole


def test_losses_do_not_depend_on_workers_or_validation(tmp_path: Path):
    kind = dict(by_epoch=False, sampler='InfiniteSampler')
    whole = train(tmp_path / 'a', **kind)
    assert train(tmp_path / 'b', **kind, workers=2) == whole
    assert train(tmp_path / 'c', **kind, validate=True) == whole
    assert train(tmp_path / 'd', **kind, seed=1) != whole


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_run_without_a_seed_resumes_with_the_one_it_drew(tmp_path: Path, sampler: str):
    kind = dict(by_epoch=False, sampler=sampler, seed=None, diff_rank_seed=True)
    first = train(tmp_path / 'a', **kind)
    (tmp_path / 'a' / 'last_checkpoint').write_text(str(tmp_path / 'a' / 'iter_4.pth'))
    assert train(tmp_path / 'a', **kind, resume=True) == {i: loss for i, loss in first.items() if i >= 4}


def test_nonfinite_steps_are_skipped_and_signals_handled_in_every_training(tmp_path: Path):
    runner = Runner(Model(), str(tmp_path), experiment_name=f'resumable-{next(COUNT)}',
                    train_dataloader=dict(dataset=Augmented(), batch_size=2, num_workers=0,
                                          sampler=dict(type='InfiniteSampler')),
                    train_cfg=dict(by_epoch=False, max_iters=2),
                    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)))
    hooks = {type(hook).__name__ for hook in runner.hooks}
    assert {'PreemptionHook', 'GuardHook', 'DeviceLogHook', 'WholeCheckpointHook'} <= hooks
    runner.train()
    assert type(runner.optim_wrapper).__name__ == 'GuardedOptimWrapper'


@pytest.mark.parametrize(('config', 'kind'), [
    (dict(optimizer=dict(type='SGD')), 'mae_backbone.GuardedOptimWrapper'),
    (dict(type='OptimWrapper', optimizer=dict(type='SGD'), clip_grad=dict(max_norm=1)),
     'mae_backbone.GuardedOptimWrapper'),
    (dict(type='AmpOptimWrapper', optimizer=dict(type='SGD'), dtype='bfloat16', loss_scale=1.0),
     'mae_backbone.GuardedOptimWrapper'),
    (dict(type='AmpOptimWrapper', optimizer=dict(type='SGD')), 'AmpOptimWrapper'),
    (dict(type='OptimWrapper', optimizer=dict(type='SGD'), own_option=1), 'OptimWrapper'),
    (dict(type='ApexOptimWrapper', optimizer=dict(type='SGD')), 'ApexOptimWrapper'),
])
def test_only_wrappers_with_known_options_are_replaced(config: dict, kind: str):
    before = dict(config)
    result = guarded(config)
    assert result['type'] == kind
    assert 'loss_scale' not in result or kind != 'mae_backbone.GuardedOptimWrapper'
    assert config == before


def test_validation_survives_the_signal_that_stops_a_job(tmp_path: Path):
    signal = TerminateWorkers()
    losses = train(tmp_path, by_epoch=False, sampler='DefaultSampler', workers=1, validate=True, hooks=(signal,))
    assert len(signal.workers) > 1, 'the worker of the training, and a worker of each validation'
    assert len(losses) == ITERATIONS, 'the main process decides when the run ends'
