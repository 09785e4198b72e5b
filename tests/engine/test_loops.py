"""The pretraining loop: a resumed run gets the same data, and changed data are refused."""
from pathlib import Path

import pytest
import torch
from helpers.crashed_runs import crash
from helpers.micro_runs import losses, micro_config, train, write_images

from mae_backbone.checkpoints.run_files import read_run


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('micro') / 'images')


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('accumulate', [1, 4])
def test_crashed_run_resumes_bit_for_bit(tmp_path: Path, images: Path, by_epoch: bool, accumulate: int):
    options = dict(iterations=20, accumulate=accumulate)
    if by_epoch:  # epochs of 6 iterations, which 4 do not divide: the checkpoint waits for the step
        options.update({'default_hooks.checkpoint.by_epoch': True, 'default_hooks.checkpoint.interval': 1})
    whole = train(micro_config(tmp_path / 'whole', images, **options))
    crash(tmp_path / 'crashed', images, 15, **options)
    resumed = train(micro_config(tmp_path / 'crashed', images, **options))
    assert losses(resumed) == losses(whole)
    assert len(set(losses(whole))) == 20
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_checkpoint_of_an_epoch_waits_for_the_step_of_an_accumulation(tmp_path: Path, images: Path):
    crash(tmp_path, images, 10, accumulate=4,
          **{'default_hooks.checkpoint.by_epoch': True, 'default_hooks.checkpoint.interval': 1})
    meta = read_run(tmp_path / 'epoch_1.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 8)


def test_a_finished_run_can_be_made_longer(tmp_path: Path, images: Path):
    train(micro_config(tmp_path / 'a', images, iterations=20, **{'train_cfg.max_iters': 9}))
    longer = train(micro_config(tmp_path / 'a', images, iterations=20))
    assert losses(longer) == losses(train(micro_config(tmp_path / 'b', images, iterations=20)))


def test_epochs_equal_iterations(tmp_path: Path, images: Path):
    by_epoch = micro_config(tmp_path / 'a', images, iterations=12)
    by_epoch.train_cfg = dict(type='mae_backbone.PretrainLoop', max_epochs=2)
    assert losses(train(by_epoch)) == losses(train(micro_config(tmp_path / 'b', images, iterations=12)))


@pytest.mark.parametrize('train_cfg', [dict(), dict(max_epochs=1, max_iters=2)])
def test_length_must_be_given_once(tmp_path: Path, images: Path, train_cfg: dict):
    cfg = micro_config(tmp_path, images)
    cfg.train_cfg = dict(type='mae_backbone.PretrainLoop', **train_cfg)
    with pytest.raises(ValueError, match='set one of them'):
        train(cfg)


def test_loader_that_cannot_start_mid_epoch_is_refused(tmp_path: Path, images: Path):
    cfg = micro_config(tmp_path, images)
    del cfg.train_dataloader['batch_sampler']
    with pytest.raises(ValueError, match='cannot start inside an epoch'):
        train(cfg)


def test_another_batch_or_other_images_are_refused(tmp_path: Path, images: Path):
    train(micro_config(tmp_path, images, iterations=6))
    with pytest.raises(ValueError, match=r'saved with 4 crops a step .* out of 23 images.* with 5 out'):
        train(micro_config(tmp_path, images, iterations=12, batch_size=5))


def test_a_set_smaller_than_a_batch_is_trained_on(tmp_path: Path, images: Path):
    cfg = micro_config(tmp_path, images, iterations=6, batch_size=100)
    cfg.train_dataloader.batch_sampler.drop_last = True
    runner = train(cfg)
    assert len(losses(runner)) == 6
    assert runner.train_dataloader.batch_sampler.batch_size == 23


def test_resumed_run_keeps_its_first_seed(tmp_path: Path, images: Path):
    whole = train(micro_config(tmp_path / 'whole', images, iterations=12))
    train(micro_config(tmp_path / 'a', images, iterations=12, **{'train_cfg.max_iters': 8}))
    resumed = train(micro_config(tmp_path / 'a', images, iterations=12, **{'randomness.seed': 77}))
    assert losses(resumed) == losses(whole)
