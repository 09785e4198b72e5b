"""Schedules of a resumed run are taken to its iteration with exactly the values of single steps."""
import warnings

import pytest
import torch
from mmengine.optim.scheduler.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineRestartLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolyLR,
    StepLR,
)
from mmengine.optim.scheduler.momentum_scheduler import LinearMomentum

from mae_backbone.engine.resuming import fast_forward
from mae_backbone.engine.warmup import LinearWarmup

RATES = (1e-3, 7e-4, 3.3e-5, 1.7e-3)
SCHEDULES = {
    'warm-up and cosine': [(LinearLR, dict(start_factor=1e-3, begin=0, end=50)),
                           (CosineAnnealingLR, dict(begin=50, end=400, T_max=350, eta_min=1e-6))],
    'ours and polynomial': [(LinearWarmup, dict(start_factor=1e-6, end=37.5)),
                            (PolyLR, dict(power=0.9, eta_min=0.0, begin=38, end=400))],
    'milestones': [(LinearWarmup, dict(start_factor=1e-3, end=25)), (MultiStepLR, dict(milestones=[100, 200]))],
    'others': [(ConstantLR, dict(factor=0.3, begin=0, end=20)), (StepLR, dict(step_size=30, gamma=0.7)),
               (ExponentialLR, dict(gamma=0.999, begin=100, end=200))],
    'ratio': [(CosineAnnealingLR, dict(T_max=400, eta_min_ratio=0.1))],
    'restarts': [(CosineRestartLR, dict(periods=[50, 100, 300], restart_weights=[1, 0.5, 0.2], eta_min=1e-6))],
    'momentum': [(LinearLR, dict(start_factor=0.1, end=90)), (LinearMomentum, dict(start_factor=0.5, end=150))],
    'one cycle': [(OneCycleLR, dict(eta_max=[0.1, 0.2, 0.3, 0.4], total_steps=500))],
}


def build(name: str, by_epoch: bool) -> tuple[torch.optim.Optimizer, list]:
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=rate) for rate in RATES]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    return optimizer, [cls(optimizer, **options, **({} if cls is LinearWarmup else {'by_epoch': by_epoch}))
                       for cls, options in SCHEDULES[name]]


def state(optimizer: torch.optim.Optimizer, schedulers: list) -> list:
    groups = [{key: value for key, value in group.items() if key != 'params'} for group in optimizer.param_groups]
    states = [{key: value for key, value in scheduler.state_dict().items() if not callable(value)}
              for scheduler in schedulers]
    return [groups, states]


def step_through(schedulers: list, iterations: int, epochs: int) -> None:
    """What MMEngine's ParamSchedulerHook does in a run."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        for iteration in range(1, iterations + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if epochs and iteration % (iterations // epochs) == 0 and iteration // (iterations // epochs) <= epochs:
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()


@pytest.mark.parametrize('iterations', [0, 1, 49, 150, 399])
@pytest.mark.parametrize('name', SCHEDULES)
def test_values_and_states_equal_those_of_single_steps_bit_for_bit(name: str, iterations: int):
    expected, actual = build(name, by_epoch=False), build(name, by_epoch=False)
    step_through(expected[1], iterations, 0)
    fast_forward(actual[1], iterations=iterations, epochs=0)
    assert state(*actual) == state(*expected)
    step_through(expected[1], 3, 0)
    step_through(actual[1], 3, 0)
    assert state(*actual) == state(*expected)


@pytest.mark.parametrize('name', ['warm-up and cosine', 'others'])
def test_schedules_by_epoch_step_at_the_end_of_epochs(name: str):
    expected, actual = build(name, by_epoch=True), build(name, by_epoch=True)
    step_through(expected[1], 7 * 60 + 3, 60)
    fast_forward(actual[1], iterations=7 * 60 + 3, epochs=60)
    assert state(*actual) == state(*expected)


def test_work_does_not_grow_with_the_number_of_groups(monkeypatch: pytest.MonkeyPatch):
    """A detector with layer decay has 40 groups."""
    calls = []
    original = LinearWarmup._get_value
    monkeypatch.setattr(LinearWarmup, '_get_value', lambda self: calls.append(len(self.optimizer.param_groups))
                        or original(self))
    _, schedulers = build('milestones', by_epoch=False)
    calls.clear()
    fast_forward(schedulers, iterations=1000, epochs=0)
    assert calls == [1] * 25, 'only in the warm-up, on all groups at once'
