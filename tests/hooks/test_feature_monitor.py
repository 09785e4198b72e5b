"""Features of fixed images do not depend on batches, and extracting them does not change training."""
from pathlib import Path

import pytest
import torch
from helpers.pretraining_runs import RandomCrops, runner
from mmengine.runner import Runner
from torch.testing import assert_close

from mae_backbone.evaluation.feature_extractor import token_spread
from mae_backbone.hooks.feature_monitor import MeasuringHook, extract, spread_out
from mae_backbone.registry import HOOKS

ITERATIONS = dict(by_epoch=False, max_iters=4)


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    return runner(tmp_path, [], ITERATIONS)


def test_features_equal_the_encoder_without_mask(run: Runner):
    dataset = RandomCrops(10, labels=True)
    found = extract(run, dataset, range(10), batch_size=4)
    torch.manual_seed(0)
    inputs = run.model.data_preprocessor({'inputs': [dataset[i]['inputs'] for i in range(10)]})['inputs']
    tokens = run.model.mae.encoder.eval().encode(run.model.mae.encoder.embed(inputs))
    assert_close(found.mean, tokens[:, 1:].mean(1))
    assert_close(found.class_token, tokens[:, 0])
    assert_close(found.spread, token_spread(tokens[:, 1:]))
    assert found.labels.tolist() == [0, 1] * 5
    assert extract(run, RandomCrops(4), range(4)).labels is None


def test_same_images_in_each_call_with_workers(run: Runner):
    first = extract(run, RandomCrops(6), range(6), workers=1)
    torch.rand(3)
    assert torch.equal(extract(run, RandomCrops(6), range(6), workers=1).mean, first.mean)


def test_random_state_and_mode_are_restored(run: Runner):
    before = torch.get_rng_state()
    extract(run, RandomCrops(6), [0, 3], workers=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert run.model.training
    assert torch.is_grad_enabled()


def test_images_are_evenly_spaced():
    assert spread_out(10, 5) == [0, 2, 4, 6, 8]
    assert spread_out(3, 5) == [0, 1, 2]


@HOOKS.register_module()
class Counting(MeasuringHook):
    def measure(self, runner: Runner, at: int) -> None:
        runner.measured = [*getattr(runner, 'measured', []), at]


@pytest.mark.parametrize(('hook', 'train_cfg', 'wanted'), [
    (dict(interval=2), dict(by_epoch=True, max_epochs=5), [0, 4, 8, 10]),
    (dict(interval=3, by_epoch=False), dict(by_epoch=False, max_iters=7), [0, 3, 6, 7])])
def test_measures_at_start_interval_and_end(tmp_path: Path, hook: dict, train_cfg: dict, wanted: list[int]):
    run = runner(tmp_path, [dict(type='mae_backbone.Counting', **hook)], train_cfg)
    run.train()
    assert run.measured == wanted


def test_interval_of_0_raises():
    with pytest.raises(ValueError, match=r'interval=0, expected at least 1 epochs'):
        Counting(interval=0)


class Labeled(RandomCrops):
    """Registered below for the configs of hooks."""

    def __init__(self, number: int) -> None:
        super().__init__(number, labels=True)


def test_monitoring_hooks_do_not_change_training(tmp_path: Path):
    from mae_backbone.registry import DATASETS
    DATASETS.register_module(module=Labeled, force=True)
    labeled = dict(type='mae_backbone.Labeled', number=12)
    monitoring = [dict(type='mae_backbone.HealthHook', interval=1, images=4),
                dict(type='mae_backbone.ProbeHook', interval=1, train=labeled, val=labeled, workers=1, images=12),
                dict(type='mae_backbone.ReconstructionHook', interval=1), dict(type='mae_backbone.PlotHook'),
                dict(type='mae_backbone.ThroughputHook')]
    weights, losses = [], []
    for hooks in (monitoring, []):
        run = runner(tmp_path / str(len(hooks)), hooks, dict(by_epoch=True, max_epochs=3))
        run.train()
        weights.append(run.model.state_dict())
        losses.append(run.message_hub.get_scalar('train/loss').data[0].tolist())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert losses[0] == losses[1]
