"""A whole MAE continues from public weights and from its own."""
import logging
from pathlib import Path

import pytest
import torch
from helpers.micro_runs import losses, micro_config, train, write_images
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.benchmark.reference_mae import ReferenceMAE
from mae_backbone.checkpoints.mae import load_mae
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.core.mae import MAE
from mae_backbone.core.masking import mask_from_noise
from mae_backbone.core.patches import patchify
from mae_backbone.core.vit import Arch, ViT
from mae_backbone.engine.runner import Runner
from mae_backbone.models.pretrainer import MAEPretrainer

ARCH = dict(width=32, depth=2, heads=2)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger('mae_backbone'), 'propagate', True)
    caplog.set_level(logging.INFO, logger='mae_backbone')
    return caplog


def tiny(*, decoder_width: int = 16, norm_pix: bool = True, seed: int = 0, **encoder) -> MAE:
    torch.manual_seed(seed)
    options = dict(arch=ARCH, image_size=32, patch_size=8, fixed_positions=True)
    return MAE(ViT(**options | encoder), decoder_width=decoder_width, decoder_depth=1, decoder_heads=2,
               norm_pix=norm_pix)


def public_file(model: MAE, path: Path) -> Path:
    """The file that the public MAE code writes: no prefixes, under the key `model`."""
    torch.save(dict(model={name.split('.', 1)[1]: value for name, value in model.state_dict().items()}), path)
    return path


def loss(model: MAE, images: Tensor) -> Tensor:
    return model(images, seeds=torch.arange(len(images)))[0]


# ---- with the decoder of the file

@pytest.mark.parametrize('size', [(16, 64), (32, 32), (32, 64)])
def test_positions_keep_the_grid_that_the_config_of_a_run_states(tmp_path: Path, size: tuple[int, int]):
    """The file has 16 positions for 2x8 patches. 4x4 patches have as many, in other places."""
    source, target = tiny(image_size=(16, 64)), tiny(image_size=size, seed=1)
    for table in (source.encoder.pos_embed, source.decoder.decoder_pos_embed):
        table.data.normal_()
    config = "model = dict(type='mae_backbone.MAEPretrainer', encoder=dict(image_size=(16, 64), patch_size=8))"
    torch.save(dict(state_dict={f'mae.{name}': value for name, value in source.state_dict().items()},
                    meta=dict(cfg=config)), tmp_path / 'epoch_1.pth')
    assert load_mae(target, tmp_path / 'epoch_1.pth')
    grid = (size[0] // 8, size[1] // 8)
    assert_close(target.encoder.pos_embed, source.encoder.positions(grid))
    assert_close(target.decoder.decoder_pos_embed, source.decoder.positions(grid))


@pytest.mark.parametrize('name', ['decoder_pred.weight', 'decoder_pred.bias', 'decoder_embed.weight'])
def test_decoder_with_a_tensor_without_a_shape_is_reported(tmp_path: Path, log, name: str):
    source = tiny()
    weights = {key.split('.', 1)[1]: value for key, value in source.state_dict().items()}
    torch.save(dict(model=weights | {name: torch.tensor(1.0)}), tmp_path / 'mae.pth')
    assert not load_mae(tiny(seed=1), tmp_path / 'mae.pth')
    assert 'the decoder of the file has another size' in log.text


def test_target_that_the_file_does_not_state_is_noted(tmp_path: Path, log):
    load_mae(tiny(seed=1), public_file(tiny(), tmp_path / 'mae.pth'))
    assert 'norm_pix=True of the model; the file does not state it' in log.text


def test_decoder_of_another_patch_size_is_not_read_as_one_of_other_channels(tmp_path: Path, log):
    """12x12 pixels of 4 channels are as many numbers as 8x8 pixels of 9 channels."""
    source, target = tiny(image_size=48, patch_size=12, in_channels=4), tiny(in_channels=4, seed=1)
    assert not load_mae(target, public_file(source, tmp_path / 'mae.pth'))
    assert 'the decoder of the file has another size' in log.text


def test_positions_of_as_many_patches_in_another_grid_are_interpolated(tmp_path: Path):
    source, target = tiny(), tiny(image_size=(16, 64), seed=1)
    assert load_mae(target, public_file(source, tmp_path / 'mae.pth'))
    assert_close(target.encoder.pos_embed, source.encoder.positions((2, 8)))
    assert_close(target.decoder.decoder_pos_embed, source.decoder.positions((2, 8)))


def test_first_loss_is_that_of_the_public_model(golden_mae: dict[str, Tensor], tmp_path: Path):
    """Weights, images, masks and losses are those of the public code (tests/golden/mae_tiny.npz)."""
    torch.save(dict(model={name.removeprefix('model.'): value for name, value in golden_mae.items()
                           if name.startswith('model.')}), tmp_path / 'mae.pth')
    encoder = dict(arch=dict(width=48, depth=2, heads=3), image_size=64, patch_size=8)
    model = MAEPretrainer(encoder, decoder_width=32, decoder_depth=1, decoder_heads=2,
                          init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'mae.pth'))).train()
    model.init_weights()
    first = model(golden_mae['images'], mask=mask_from_noise(golden_mae['noise'], 0.75))['loss']
    assert_close(first, golden_mae['loss_norm_pix_True'], atol=1e-5, rtol=0)


def test_first_loss_is_that_of_the_reference_on_timm(tmp_path: Path):
    torch.manual_seed(3)
    reference = ReferenceMAE(Arch(**ARCH), image_size=(32, 32), patch_size=8, decoder_width=16, decoder_depth=1,
                             decoder_heads=2)
    torch.save(dict(model=reference.state_dict()), tmp_path / 'mae.pth')
    model, images, noise = tiny(), torch.randn(4, 3, 32, 32), torch.rand(4, 16)
    assert load_mae(model, tmp_path / 'mae.pth') is True
    assert_close(model(images, mask_from_noise(noise, 0.75))[0], reference(images, noise), atol=1e-5, rtol=0)


def test_checkpoint_of_pretrain_loads_with_its_decoder(tmp_path: Path):
    pretrainer = MAEPretrainer(dict(arch=ARCH, image_size=32, patch_size=8), decoder_width=16, decoder_depth=1,
                               decoder_heads=2)
    torch.save(dict(state_dict=pretrainer.state_dict(), meta={}), tmp_path / 'iter_1.pth')
    model, images = tiny(seed=1), torch.randn(2, 3, 32, 32)
    assert load_mae(model, tmp_path / 'iter_1.pth')
    assert torch.equal(loss(model, images), loss(pretrainer.mae, images))


def test_positions_are_those_of_the_model_at_another_image_size(tmp_path: Path, log: pytest.LogCaptureFixture):
    """The MAE of 32 pixels interpolates its positions when it sees 48: the one built for 48 has them stored."""
    small, large, images = tiny(), tiny(seed=1, image_size=48), torch.randn(2, 3, 48, 48)
    load_mae(large, public_file(small, tmp_path / 'mae.pth'))
    assert_close(loss(large, images), loss(small, images), atol=1e-5, rtol=0)
    assert '  pos_embed from 4x4 to 6x6' in log.text
    assert 'decoder_pos_embed from 4x4 to 6x6' in log.text


@pytest.mark.parametrize('channels', [6, 1])
def test_other_channels_keep_loss_of_images_that_repeat_them(channels: int, tmp_path: Path,
                                                             log: pytest.LogCaptureFixture):
    """Six channels are RGB twice; one is what the three of a gray image have in common."""
    rgb, other = tiny(norm_pix=False), tiny(norm_pix=False, seed=1, in_channels=channels)
    images = torch.randn(2, 3 if channels == 6 else 1, 32, 32)
    load_mae(other, public_file(rgb, tmp_path / 'mae.pth'))
    repeated = images.repeat(1, 2, 1, 1) if channels == 6 else images
    seeds = torch.arange(2)
    before, pixels, mask = rgb(images.expand(-1, 3, -1, -1), seeds=seeds)
    after, adapted, _ = other(repeated, mask)
    if channels == 6:
        assert_close(after, before, atol=1e-5, rtol=0)
    assert_close(adapted.unflatten(2, (64, channels)).mean(3), pixels.unflatten(2, (64, 3)).mean(3), atol=1e-5, rtol=0)
    assert f'patch_embed.proj.weight from 3 to {channels} channels' in log.text
    assert 'pixels a side' not in log.text


def test_channels_are_reduced_to_rgb(tmp_path: Path):
    multispectral, rgb, images = tiny(in_channels=12), tiny(seed=1), torch.randn(2, 1, 32, 32)
    load_mae(rgb, public_file(multispectral, tmp_path / 'mae.pth'))
    mask = mask_from_noise(torch.rand(2, 16), 0.75)
    latents = [model.encode(patchify(images.expand(-1, channels, -1, -1), 8), mask, (4, 4))
               for model, channels in ((rgb, 3), (multispectral, 12))]
    assert_close(latents[0], latents[1], atol=1e-4, rtol=0)


# ---- without one

def test_without_a_decoder_it_stays_random_and_log_says_so(tmp_path: Path, log: pytest.LogCaptureFixture):
    source, model, fresh = tiny(), tiny(seed=1), tiny(seed=1)
    torch.save(source.encoder.state_dict(), tmp_path / 'encoder.pth')
    assert load_mae(model, tmp_path / 'encoder.pth') is False
    assert all(torch.equal(a, b) for a, b in zip(model.decoder.parameters(), fresh.decoder.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.encoder.parameters(), source.encoder.parameters(), strict=True))
    assert 'the file has no decoder: it starts from random weights' in log.text


def test_decoder_without_its_last_layer_stays_random(tmp_path: Path, log: pytest.LogCaptureFixture):
    model, weights = tiny(seed=1), torch.load(public_file(tiny(), tmp_path / 'mae.pth'), weights_only=True)['model']
    del weights['decoder_pred.weight']
    torch.save(weights, tmp_path / 'mae.pth')
    assert load_mae(model, tmp_path / 'mae.pth') is False
    assert '(width 16, 1 blocks, unknown pixels of a patch; in the model' in log.text


@pytest.mark.parametrize(('options', 'reason'), [
    (dict(decoder_width=24), '(width 16, 1 blocks, 192 pixels of a patch; in the model width 24, 1 blocks, 192'),
    (dict(patch_size=4, image_size=16), '108 pixels of a patch; in the model width 16, 1 blocks, 48 pixels')])
def test_decoder_that_does_not_fit_stays_random_with_the_reason(options: dict, reason: str, tmp_path: Path,
                                                                log: pytest.LogCaptureFixture):
    model, fresh = tiny(seed=1, **options), tiny(seed=1, **options)
    source = tiny(patch_size=6, image_size=24) if 'patch_size' in options else tiny()
    assert load_mae(model, public_file(source, tmp_path / 'mae.pth')) is False
    assert all(torch.equal(a, b) for a, b in zip(model.decoder.parameters(), fresh.decoder.parameters(), strict=True))
    assert 'the decoder of the file has another size' in log.text
    assert reason in log.text


def test_wrong_encoder_or_damaged_decoder_is_refused_and_changes_nothing(tmp_path: Path):
    model = tiny(seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other = tiny(arch=dict(width=48, depth=2, heads=2))
    with pytest.raises(CheckpointError, match='width 48'):
        load_mae(model, public_file(other, tmp_path / 'wide.pth'))
    broken = tiny()
    broken.decoder.mask_token.data.fill_(float('nan'))
    with pytest.raises(CheckpointError, match='NaN or infinite'):
        load_mae(model, public_file(broken, tmp_path / 'nan.pth'))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        load_mae(model, tmp_path / 'none.pth')
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_heads_and_target_of_the_decoder_are_compared_with_the_config_in_the_file(tmp_path: Path,
                                                                                  log: pytest.LogCaptureFixture):
    pretrainer = MAEPretrainer(dict(arch=ARCH, image_size=32, patch_size=8), decoder_width=16, decoder_depth=1,
                               decoder_heads=4)
    config = ("model = dict(type='mae_backbone.MAEPretrainer', encoder=dict(arch=dict(width=32, depth=2, heads=2)), "
              'decoder_heads={}, norm_pix=False)')
    for heads in (4, 2):
        torch.save(dict(state_dict=pretrainer.state_dict(), meta=dict(cfg=config.format(heads))),
                   tmp_path / f'{heads}.pth')
    with pytest.raises(CheckpointError, match='has 4 heads of attention in its decoder, the model has 2'):
        load_mae(tiny(), tmp_path / '4.pth')
    assert load_mae(tiny(), tmp_path / '2.pth')
    assert 'norm_pix=False in the file, True in the model' in log.text


def test_init_cfg_is_checked():
    with pytest.raises(ValueError, match='expected dict'):
        MAEPretrainer(dict(arch=ARCH, image_size=32, patch_size=8), init_cfg=dict(type='Xavier'))


# ---- a run

class FirstBatch(Hook):
    """Keeps the first batch of a run."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter == 0:
            self.batch = {name: value.clone() for name, value in data_batch.items()}
            self.lr = runner.optim_wrapper.get_lr()['lr'][0]


def test_run_starts_at_step_0_with_the_loss_of_the_file(tmp_path: Path):
    images = write_images(tmp_path / 'images')
    options = {'model.encoder.drop_path_rate': 0.0, 'default_hooks.reconstructions': None, 'iterations': 6}
    train(micro_config(tmp_path / 'source', images, **options))
    file = tmp_path / 'source' / 'iter_6.pth'
    runner = Runner.quietly_from_cfg(micro_config(tmp_path / 'continued', images, **options, **{
        'model.init_cfg': dict(type='Pretrained', checkpoint=str(file)), 'randomness.seed': 8}))
    first = FirstBatch()
    runner.register_hook(first)
    runner.train()
    source = MODELS.build(runner.cfg.model)
    source.load_state_dict(read_run(file)['state_dict'])
    wanted = source(**source.data_preprocessor(first.batch), mode='loss')['loss']
    assert losses(runner)[0] == pytest.approx(wanted.item(), abs=1e-6)
    assert len(losses(runner)) == 6
    assert first.lr == pytest.approx(1e-4), 'the first rate of the warm-up'
