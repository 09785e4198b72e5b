"""Crops grow over pretraining, also in a resumed run and with persistent workers."""
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.crashed_runs import crash
from helpers.micro_runs import losses, micro_config, train, write_images
from mmengine.registry import HOOKS

from mae_backbone.hooks.image_size_schedule import ImageSizeHook, by_epoch, checked_stages
from mae_backbone.models.pretrainer import MAEPretrainer

GROWING = {'default_hooks.image_sizes': dict(type='mae_backbone.ImageSizeHook', stages=[(0, 8), (0.5, [16, 12])])}


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('sizes') / 'images')


def test_stages_start_at_fractions_of_any_training():
    stages = checked_stages([(0, 160), (1 / 3, [192, 96]), (2 / 3, 224)])
    assert by_epoch(stages, 800) == [(0, (160, 160)), (267, (192, 96)), (533, (224, 224))]
    assert by_epoch(stages, 3) == [(0, (160, 160)), (1, (192, 96)), (2, (224, 224))]
    assert by_epoch(stages, 1) == [(0, (192, 96)), (1, (224, 224))]


@pytest.mark.parametrize('stages', [[], [(0.1, 160)], [(0, 160), (0, 192)], [(0, 160), (1.0, 192)], [(0, 160, 3)],
                                    [(0, 160), (0.6, 192), (0.3, 224)], [(0, 0)]])
def test_stages_that_are_no_schedule_are_refused(stages: list):
    with pytest.raises(ValueError, match=r'stages=|image_size'):
        HOOKS.build(dict(type='mae_backbone.ImageSizeHook', stages=stages))


def sizes_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The list to which every training step adds the size of its images."""
    seen, forward = [], MAEPretrainer.forward

    def noted(self: MAEPretrainer, inputs: torch.Tensor, *args: object, **options: object) -> object:
        if self.training:  # not in a picture of reconstructions
            seen.append(tuple(inputs.shape[2:]))
        return forward(self, inputs, *args, **options)
    monkeypatch.setattr(MAEPretrainer, 'forward', noted)
    return seen


@pytest.mark.parametrize('stop', [5, 15])  # before and after the images grow, at the end of 2 of 4 epochs of 6
def test_crashed_run_resumes_with_the_same_losses(tmp_path: Path, images: Path, stop: int,
                                                  monkeypatch: pytest.MonkeyPatch):
    seen = sizes_seen(monkeypatch)
    whole = train(micro_config(tmp_path / 'whole', images, iterations=20, **GROWING))
    assert seen == [(8, 8)] * 12 + [(16, 12)] * 8
    crash(tmp_path / 'crashed', images, stop, iterations=20, **GROWING)
    resumed = train(micro_config(tmp_path / 'crashed', images, iterations=20, **GROWING))
    assert losses(resumed) == losses(whole)


def test_persistent_workers_follow(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch):
    seen = sizes_seen(monkeypatch)
    runs = [train(micro_config(tmp_path / str(workers), images, iterations=14, workers=workers, **GROWING))
            for workers in (0, 1)]
    assert losses(runs[1]) == losses(runs[0])
    assert seen == 2 * ([(8, 8)] * 12 + [(16, 12)] * 2)  # of 3 epochs the nearest to a half is the second
    del runs


def runner_of(batches: object, image_size: int = 16) -> SimpleNamespace:
    encoder = SimpleNamespace(patch_size=4, image_size=(image_size, image_size))
    return SimpleNamespace(model=SimpleNamespace(mae=SimpleNamespace(encoder=encoder)), max_epochs=2,
                           train_dataloader=SimpleNamespace(batch_sampler=batches))


@pytest.mark.parametrize(('stages', 'image_size', 'message'), [
    ([(0, 10)], 16, 'both sides must be multiples of patch_size=4'),
    ([(0, 8), (0.5, 16)], 8, 'a stage of 16x16 pixels, and image_size of the model is 8x8')])
def test_sizes_that_do_not_fit_are_refused_before_the_first_step(stages: list, image_size: int, message: str,
                                                                 monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageSizeHook, 'sampler', lambda *_: SimpleNamespace())
    with pytest.raises(ValueError, match=message):
        ImageSizeHook(stages).before_train(runner_of(None, image_size))


def test_a_loader_without_sizes_is_refused():
    with pytest.raises(ValueError, match=r'needs train_dataloader\.batch_sampler'):
        ImageSizeHook([(0, 8)]).before_train(runner_of(object()))
