"""Non-finite steps are counted and logged; many in a row cause rollbacks, and finally an error."""
import math
from pathlib import Path

import pytest
import torch
from helpers.micro_runs import losses, micro_config, train, write_images
from mmengine.hooks import EMAHook, Hook

from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.engine.runner import Runner
from mae_backbone.hooks.nonfinite_guard import GuardHook, NonFiniteError


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('micro') / 'images')


class Poison(Hook):
    """Sets the weights of the loss to nan in some iterations, as a bad float image would."""

    def __init__(self, iterations: set[int]) -> None:
        self.iterations, self.seen = iterations, []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self.seen.append(data_batch['seeds'].tolist())
        if runner.iter in self.iterations:
            data_batch['weights'].fill_(math.nan)


def run(folder: Path, images: Path, bad: set[int], *, resume: str | None = None, **options) -> tuple[Runner, Poison]:
    cfg = micro_config(folder, images, iterations=30, **{'default_hooks.guard.patience': 3} | options)
    if resume:
        cfg.load_from, cfg.resume = resume, True
    runner, poison = Runner.quietly_from_cfg(cfg), Poison(bad)
    runner.register_hook(poison)
    runner.train()
    return runner, poison


def log(folder: Path) -> str:
    return ''.join(path.read_text('utf-8') for path in sorted(folder.glob('*/*.log')))


def test_nonfinite_step_is_skipped_counted_and_logged(tmp_path: Path, images: Path):
    runner, _ = run(tmp_path, images, {11})
    hub = runner.message_hub
    assert hub.get_scalar('train/skipped').data[0].tolist() == [float(i == 11) for i in range(30)]
    assert math.isnan(losses(runner)[11])
    assert '1 steps skipped since the last check' in log(tmp_path)
    assert 'steps 12; 1 of 15 in total' in log(tmp_path)
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())


def test_skipped_steps_in_a_row_roll_back_to_the_last_good_checkpoint(tmp_path: Path, images: Path):
    bad = {11, 12, 13}
    kept = {}

    class Keep(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                             outputs: dict | None = None) -> None:
            if runner.iter + 1 in (9, 15):
                kept[runner.iter + 1] = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner = Runner.quietly_from_cfg(micro_config(tmp_path, images, iterations=30,
                                                  **{'default_hooks.guard.patience': 3}))
    poison = Poison(bad)
    runner.register_hook(poison)
    runner.register_hook(Keep())
    runner.train()
    # The checkpoint of iteration 12 was saved during the skipped steps, iteration 9 before them.
    assert (f'rolled back to the weights of {tmp_path}/iter_9.pth, continuing with other data (rollback 1 of 2)'
            in log(tmp_path))
    assert all(torch.equal(kept[9][name], value) for name, value in kept[15].items())
    plain, whole = run(tmp_path / 'plain', images, set())
    assert poison.seen == whole.seen, 'the batches after the failing ones come next'
    assert runner.optim_wrapper.get_lr() == plain.optim_wrapper.get_lr()
    assert len(losses(runner)) == 30


def test_a_rollback_restores_the_trained_weights_and_not_their_average(tmp_path: Path, images: Path):
    runner, _ = run(tmp_path, images, {11, 12, 13}, custom_hooks=[dict(type='EMAHook', momentum=0.1)], **{
        'train_cfg.max_iters': 15, 'default_hooks.checkpoint.max_keep_ckpts': 20})
    assert 'iter_9.pth, continuing' in log(tmp_path)
    stored = read_run(tmp_path / 'iter_9.pth')
    average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model
    for name, value in runner.model.named_parameters():
        assert torch.equal(value, stored['ema_state_dict'][f'module.{name}']), name  # MMEngine exchanges the two
        assert torch.equal(average.module.get_parameter(name), stored['state_dict'][name]), name


def test_training_continues_without_a_checkpoint(tmp_path: Path, images: Path):
    runner, _ = run(tmp_path, images, {1, 2, 3}, **{'default_hooks.checkpoint.interval': 30})
    assert 'no checkpoint to roll back to' in log(tmp_path)
    assert runner.iter == 30


def test_checkpoints_of_an_earlier_run_in_the_folder_are_not_rolled_back_to(tmp_path: Path, images: Path):
    run(tmp_path, images, set(), **{'default_hooks.checkpoint.max_keep_ckpts': 20})
    run(tmp_path, images, {11, 12, 13}, **{'default_hooks.checkpoint.interval': 30})
    assert 'and no checkpoint to roll back to: continuing with other data' in log(tmp_path)


def test_run_stops_with_a_report_after_all_rollbacks(tmp_path: Path, images: Path):
    with pytest.raises(NonFiniteError, match=r'not finite for 4 steps in a row at iteration 30, after '
                                             r'2 rollbacks.*Learning rate .*norm of the last finite gradients '
                                             r'0\.\d+; 15 of 30 steps.*max_norm'):
        run(tmp_path, images, {*range(3, 10), *range(11, 15), *range(26, 30)},
            **{'default_hooks.checkpoint.max_keep_ckpts': 20})
    said = log(tmp_path)
    assert '(rollback 1 of 2)' in said
    assert '(rollback 2 of 2)' in said


def test_counts_survive_a_crash(tmp_path: Path, images: Path):
    bad = {4, 11, 12, 13, 22}
    whole, _ = run(tmp_path / 'whole', images, bad)
    options = {'default_hooks.checkpoint.max_keep_ckpts': 20}
    run(tmp_path / 'a', images, bad, **options)
    for step in (12, 18):
        resumed, _ = run(tmp_path / 'a', images, bad, resume=str(tmp_path / 'a' / f'iter_{step}.pth'), **options)
        assert [str(x) for x in losses(resumed)] == [str(x) for x in losses(whole)]
        guard = next(hook for hook in resumed.hooks if isinstance(hook, GuardHook))
        assert guard.state == dict(steps=30, skipped=5, streak=0, longest=1, returned=1)
    assert read_run(tmp_path / 'a' / 'iter_12.pth')['guard']['streak'] == 1


@pytest.mark.parametrize('options', [dict(patience=0), dict(returns=-1), dict(interval=0)])
def test_arguments_out_of_range_raise(options: dict):
    with pytest.raises(ValueError, match='expected at least 1, 0 and 1'):
        GuardHook(**options)


def test_other_optim_wrapper_raises(tmp_path: Path, images: Path):
    with pytest.raises(ValueError, match='GuardHook counts the steps that a GuardedOptimWrapper skips'):
        # With the scope in its name the Runner takes it as it is.
        train(micro_config(tmp_path, images, **{'optim_wrapper.type': 'mmengine.OptimWrapper'}))
