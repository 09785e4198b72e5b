"""Early stopping counts validations, and decides alike in a run that was stopped and resumed."""
import itertools
import sys
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mae_backbone.checkpoints.run_files import resume_path
from mae_backbone.engine.runner import Runner
from mae_backbone.hooks.scalar_history import metric_history

COUNT = itertools.count()
SCORES = [0.1, 0.5, 0.4, 0.5, 0.45, 0.3, 0.9, 0.9, 0.9, 0.9]  # of the validations after 2, 4, ... iterations


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs: torch.Tensor, mode: str = 'loss') -> dict | list:
        return [{}] if mode == 'predict' else dict(loss=self.layer(torch.ones(1, 1)).square().mean())


class Score(BaseMetric):
    """Takes the next score of a list, as a validation of a deterministic training would."""

    def __init__(self, runner: list) -> None:
        super().__init__()
        self.runner = runner

    def process(self, data_batch: dict, data_samples: list) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return {'mIoU': SCORES[self.runner[0].iter // 2 - 1]}


class Killed(Hook):
    """Ends a run before an iteration, or before a validation."""

    def __init__(self, iteration: int, *, in_validation: bool) -> None:
        self.iteration, self.in_validation = iteration, in_validation

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == self.iteration and not self.in_validation:
            raise KeyboardInterrupt

    def before_val_epoch(self, runner: Runner) -> None:
        if runner.iter == self.iteration and self.in_validation:
            raise KeyboardInterrupt


def runner(work_dir: Path, *, patience: int = 3, save_every: int = 2, hooks: tuple[Hook, ...] = (),
           epochs: bool = False, resume: bool = False) -> Runner:
    data = [dict(inputs=torch.zeros(1))] * 2
    loader = dict(dataset=data, batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    path = resume_path('auto', work_dir) if resume else None
    cell: list = []
    run = Runner(
        Model(), str(work_dir), train_dataloader=loader, val_dataloader=loader, val_cfg={},
        val_evaluator=Evaluator([Score(cell)]), load_from=path, resume=path is not None,
        train_cfg=dict(by_epoch=True, max_epochs=10, val_interval=1) if epochs else dict(
            by_epoch=False, max_iters=20, val_interval=2),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        log_processor=dict(by_epoch=epochs), randomness=dict(seed=0), experiment_name=f'stopping-{next(COUNT)}',
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=epochs, interval=save_every // 2 if epochs else save_every,
                            save_best='mIoU', rule='greater'),
            early_stopping=dict(type='mae_backbone.EarlyStopHook', monitor='mIoU', patience=patience)),
        custom_hooks=list(hooks))
    cell.append(run)
    return run


@pytest.mark.parametrize('epochs', [False, True])
def test_stops_after_validations_without_improvement(tmp_path: Path, epochs: bool):
    run = runner(tmp_path, epochs=epochs)
    run.train()
    # The best is 0.5 after 4 iterations; 0.4, 0.5 (equal) and 0.45 are no improvement.
    assert run.iter == 10
    assert metric_history(run.message_hub, 'mIoU')[0].tolist() == [2, 4, 6, 8, 10]
    assert len(list(tmp_path.glob('best_mIoU_*_[24].pth'))) == 1, 'the best one, of epoch 2 or iteration 4'


@pytest.mark.parametrize('epochs', [False, True])
@pytest.mark.parametrize(('kill_at', 'in_validation'), [(6, True), (8, False), (9, False), (10, True)])
def test_resumed_run_stops_where_an_uninterrupted_one_does(tmp_path: Path, epochs: bool, kill_at: int,
                                                           in_validation: bool):
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, epochs=epochs, hooks=(Killed(kill_at, in_validation=in_validation),)).train()
    run = runner(tmp_path, epochs=epochs, resume=True)
    run.train()
    assert run.iter == 10
    assert metric_history(run.message_hub, 'mIoU')[0].tolist() == [2, 4, 6, 8, 10], 'none is lost, none counts twice'
    again = runner(tmp_path, epochs=epochs, resume=True)
    again.train()
    assert again.iter == 10, 'a run that has stopped does not go on'
    assert len(list(tmp_path.glob('best_*.pth'))) == 1


def test_a_detector_that_has_found_nothing_yet_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules[__name__], 'SCORES', [0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.9])
    run = runner(tmp_path)
    run.train()
    assert run.iter == 18, 'three validations after the best one'


def test_longer_patience_goes_on(tmp_path: Path):
    run = runner(tmp_path, patience=5)
    run.train()
    assert run.iter == 20


def test_metric_that_is_not_computed_is_named(tmp_path: Path):
    run = runner(tmp_path)
    next(hook for hook in run.hooks if type(hook).__name__ == 'EarlyStopHook').monitor = 'mDice'
    with pytest.raises(ValueError, match='looks at mDice, but the validation has computed mIoU'):
        run.train()
