"""Rank and spread detect early, without labels, that a pretraining does not learn."""
import logging
from pathlib import Path

import pytest
import torch
from helpers.pretraining_runs import log_of, runner
from mmengine.logging import MMLogger

from mae_backbone.hooks import health
from mae_backbone.hooks.health import HealthHook, effective_rank, verdict
from mae_backbone.hooks.scalar_history import history


@pytest.mark.parametrize('directions', [1, 3, 8])
def test_rank_is_the_number_of_equal_directions(directions: int):
    bases = torch.linalg.qr(torch.randn(40, 8))[0][:, :directions], torch.linalg.qr(torch.randn(8, 8))[0][:directions]
    assert effective_rank(bases[0] @ bases[1]) == pytest.approx(directions, rel=1e-4)


def test_rank_equals_the_formula_of_the_paper():
    features = torch.randn(50, 6) * torch.tensor([10.0, 5, 2, 1, 0.5, 0.1])
    values = torch.linalg.svdvals(features.double())
    shares = values / values.abs().sum() + 1e-7
    assert effective_rank(features) == pytest.approx(float((-(shares * shares.log()).sum()).exp()))
    assert effective_rank(1000 * features) == pytest.approx(effective_rank(features), rel=1e-6)
    assert effective_rank(torch.zeros(5, 3)) < 1.1


def warnings(ranks: list[float], spreads: list[float], losses: list[float] = ()) -> list[str]:
    return [line for level, line in verdict(ranks, spreads, losses) if level == logging.WARNING]


def test_healthy_run_gives_no_message():
    assert verdict([20, 9, 5.7, 6, 7], [0.6, 0.47, 0.3, 0.25, 0.27], [0.6, 0.55]) == []


@pytest.mark.parametrize(('ranks', 'spreads', 'losses', 'message'), [
    ([20, 1.2], [0.6, 0.3], [], 'nearly equal (effective rank 1.2)'),
    ([20, 30, 12], [0.6, 0.3, 0.3], [], 'fell from 30.0 to 12.0'),
    ([20, 9], [0.6, 0.06], [], 'nearly equal (spread 0.06)'),
    ([20, 20, 20], [0.6, 0.5, 0.5], [0.5, 0.6], 'the loss rose from 0.5000 to 0.6000')])
def test_problem_gives_one_warning(ranks: list[float], spreads: list[float], losses: list[float], message: str):
    lines = warnings(ranks, spreads, losses)
    assert len(lines) == 1
    assert message in lines[0]


def test_end_of_the_plateau_is_an_info():
    assert [level for level, _ in verdict([20, 5, 6], [0.6, 0.06, 0.15], [])] == [logging.INFO]


def test_run_is_measured_and_warned_of_equal_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = runner(tmp_path, [dict(type='mae_backbone.HealthHook', interval=1, images=6, batch_size=4)],
                 dict(by_epoch=True, max_epochs=2), interval=1)
    encoder = run.model.mae.encoder
    monkeypatch.setattr(encoder, 'encode', lambda tokens, **_: torch.ones(len(tokens), 1 + tokens.shape[1], 16)
                        + 0 * type(encoder).encode(encoder, tokens))
    monkeypatch.setattr(health, '_JUDGED_AFTER', 1)
    monkeypatch.setattr(health, '_JUDGED_IMAGES', 2)
    run.train()
    assert history(run.message_hub, 'rank')[0].tolist() == [0, 2, 4]
    assert history(run.message_hub, 'spread')[1].tolist() == [0, 0, 0]
    said = log_of(tmp_path)
    assert 'health: effective rank 1.0 of at most 6 (RankMe), spread of the tokens within an image 0.00' in said
    assert 'the encoder has collapsed' in said
    assert 'nearly equal (spread 0.00)' in said
    assert isinstance(run.logger, MMLogger)


@pytest.mark.parametrize(('images', 'judged_after'), [(16, 200), (6, 1)])
def test_short_run_and_few_images_are_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int,
                                                 judged_after: int):
    """After 20 iterations of the warm-up, and with a rank of at most 6, nothing can be said about a collapse."""
    run = runner(tmp_path, [dict(type='mae_backbone.HealthHook', interval=1, images=images, batch_size=4)],
                 dict(by_epoch=True, max_epochs=2), interval=1, images=images)
    monkeypatch.setattr(health, '_JUDGED_AFTER', judged_after)
    monkeypatch.setattr(health, 'effective_rank', lambda _: 1.0)
    run.train()
    assert 'effective rank 1.0' in log_of(tmp_path)
    assert 'collapsed' not in log_of(tmp_path)


def test_losses_are_means_between_measurements(tmp_path: Path):
    run = runner(tmp_path, [dict(type='mae_backbone.HealthHook', interval=2, by_epoch=False, images=4)],
                 dict(by_epoch=False, max_iters=6), interval=1)
    run.train()
    losses = run.message_hub.get_scalar('train/loss').data[0]
    assert HealthHook.losses(run, 6) == pytest.approx([losses[2:4].mean(), losses[4:6].mean()])


def test_one_image_raises():
    with pytest.raises(ValueError, match=r'images=1, expected at least 2'):
        HealthHook(images=1)
