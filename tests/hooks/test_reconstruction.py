"""Reconstructions show the same images with the same masks, and drawing them does not change training."""
import itertools
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.hooks.reconstruction import ReconstructionHook, draw_reconstructions, to_pixels
from mae_backbone.models.pretrainer import MAEPretrainer

COUNT = itertools.count()


def model_config(channels: int = 3) -> dict:
    return dict(type='mae_backbone.MAEPretrainer', decoder_width=8, decoder_depth=1, decoder_heads=1,
                encoder=dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=4, in_channels=channels),
                data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[120.0] * channels,
                                       std=[60.0] * channels))


def images(number: int = 2, channels: int = 3) -> list[Tensor]:
    return [torch.randint(256, (channels, 16, 24), dtype=torch.uint8) for _ in range(number)]


class RandomCrops(Dataset):
    """As those of a pretraining, drawn from torch's random numbers."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict:
        return dict(inputs=torch.randint(256, (3, 16, 16), dtype=torch.uint8))


def run(work_dir: Path, hooks: list[dict], train_cfg: dict) -> Runner:
    runner = Runner(
        model=model_config(), work_dir=str(work_dir), experiment_name=f'test-hooks-{next(COUNT)}',
        train_dataloader=dict(dataset=RandomCrops(), batch_size=4, num_workers=0,
                              sampler=dict(type='DefaultSampler' if train_cfg['by_epoch'] else 'InfiniteSampler'),
                              collate_fn=dict(type='pseudo_collate')),
        train_cfg=train_cfg, optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)), randomness=dict(seed=0),
        default_hooks=dict(checkpoint=None), custom_hooks=hooks)
    runner.train()
    return runner


@pytest.mark.parametrize(('hook', 'train_cfg', 'names'), [
    (dict(interval=2), dict(by_epoch=True, max_epochs=5), ['epoch_2.png', 'epoch_4.png', 'epoch_5.png']),
    (dict(interval=4, by_epoch=False), dict(by_epoch=False, max_iters=6), ['iter_4.png', 'iter_6.png']),
])
def test_pictures_are_drawn_at_intervals_and_at_the_end(tmp_path: Path, hook: dict, train_cfg: dict, names: list[str]):
    run(tmp_path, [dict(type='mae_backbone.ReconstructionHook', images=3, **hook)], train_cfg)
    files = sorted((tmp_path / 'reconstructions').iterdir())
    assert [file.name for file in files] == names
    pictures = [cv2.imread(str(file)) for file in files]
    for before, after in itertools.pairwise(pictures):
        assert before.shape == after.shape == (24 + 3 * 196, 3 * 196, 3)
        assert (before[:, :2 * 196] == after[:, :2 * 196]).all()  # the same images under the same masks
        assert (before[:, 2 * 196:] != after[:, 2 * 196:]).any()  # and what was learned


def test_drawing_does_not_change_training(tmp_path: Path):
    hook, train_cfg = dict(type='mae_backbone.ReconstructionHook', interval=1), dict(by_epoch=True, max_epochs=2)
    drawn, plain = run(tmp_path / 'drawn', [hook], train_cfg), run(tmp_path / 'plain', [], train_cfg)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(drawn.model.state_dict()[name], value), name


@pytest.mark.parametrize('channels', [[0, 1, 3], [0, 1]])
def test_channels_that_the_images_lack_are_refused_before_the_first_iteration(channels: list[int]):
    hook = ReconstructionHook(channels=channels)
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=RandomCrops()))
    with pytest.raises(ValueError, match='expected three from 0 to 2'):
        hook.before_train(runner)


def test_picture_has_one_row_per_image_and_depends_on_the_seed():
    model, shown = MODELS.build(model_config()).train(), images(3)
    before = torch.get_rng_state()
    picture = draw_reconstructions(model, shown)
    assert picture.shape == (24 + 3 * 196, 3 * (288 + 4), 3)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert (draw_reconstructions(model, shown) == picture).all()
    assert (draw_reconstructions(model, shown, seed=1) != picture).any()
    enlarged = shown[0].permute(1, 2, 0).numpy().repeat(12, 0).repeat(12, 1)
    assert (picture[24:24 + 192, :288] == enlarged).all()


@pytest.mark.parametrize('ratio', [0.25, 0.5])
def test_mask_ratio_can_be_chosen(ratio: float):
    picture = draw_reconstructions(MODELS.build(model_config()), images(1), mask_ratio=ratio)
    masked = picture[24:24 + 192, 292:292 + 288]
    assert (masked == 120).all(-1).mean() == pytest.approx(ratio, abs=1e-3)  # hidden is zero, that is the mean


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_pixels_survive_normalization_and_back(channels: int):
    model: MAEPretrainer = MODELS.build(model_config(channels))
    image = images(1, channels)[0]
    found = to_pixels(model.data_preprocessor({'inputs': [image]})['inputs'][0], model.data_preprocessor)
    wanted = image.permute(1, 2, 0).numpy()
    assert (found == (wanted[..., :3] if channels >= 3 else wanted[..., :1].repeat(3, 2))).all()
    assert found.dtype == np.uint8


def test_pixels_are_clamped_and_kept_without_normalization():
    plain = MODELS.build(dict(type='ImgDataPreprocessor'))
    image = torch.tensor([-20.0, 100.4, 300.0])[:, None, None].expand(3, 2, 2)
    assert to_pixels(image, plain).tolist() == [[[0, 100, 255]] * 2] * 2


def test_channels_of_16_bits_are_stretched_around_the_mean():
    preprocessor = MODELS.build(dict(type='mae_backbone.PixelPreprocessor', mean=[2000.0] * 5, std=[500.0] * 5))
    image = torch.tensor([-2.0, 0, 2, 5, -5])[:, None, None].expand(5, 2, 2)
    assert to_pixels(image, preprocessor, channels=[2, 1, 0])[0, 0].tolist() == [255, 128, 0]
    assert to_pixels(image, preprocessor, channels=[3, 4, 1])[0, 0].tolist() == [255, 0, 128]
