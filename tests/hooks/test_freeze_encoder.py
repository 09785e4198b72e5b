"""The encoder is frozen in the first iterations of a run, alone and in several processes, and resumes bit for bit."""
from pathlib import Path

import pytest
import torch
from helpers.crashed_runs import crash
from helpers.micro_runs import losses, micro_config, train, write_images
from mmengine.runner import Runner

from mae_backbone.checkpoints.run_files import read_run
from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import ViT
from mae_backbone.hooks.freeze_encoder import FreezeEncoderHook


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp('images') / 'x')


OPTIONS = {'iterations': 8, 'save_every': 2, 'model.freeze_encoder_iters': 4, 'default_hooks.reconstructions': None}


def run(work_dir: Path, images: Path, **options) -> Runner:
    return train(micro_config(work_dir, images, **OPTIONS | options))


def weights(work_dir: Path, iteration: int) -> dict[str, torch.Tensor]:
    return read_run(work_dir / f'iter_{iteration}.pth')['state_dict']


def test_only_the_decoder_learns_first(images: Path, tmp_path: Path):
    run(tmp_path, images, **{'default_hooks.checkpoint.max_keep_ckpts': -1})
    moved = [{name.split('.')[1] for name, value in weights(tmp_path, last).items()
              if not torch.equal(value, weights(tmp_path, first)[name])} for first, last in ((2, 4), (4, 6))]
    assert moved == [{'decoder'}, {'encoder', 'decoder'}]
    states = read_run(tmp_path / 'iter_4.pth')['optimizer']['state']
    assert 0 < len(states) < len(read_run(tmp_path / 'iter_6.pth')['optimizer']['state']), 'no moments of the encoder'


@pytest.mark.parametrize('after', [3, 5])
def test_crashed_run_resumes_bit_for_bit(after: int, images: Path, tmp_path: Path):
    whole = run(tmp_path / 'whole', images)
    crash(tmp_path / 'crashed', images, after, **OPTIONS)
    resumed = run(tmp_path / 'crashed', images)
    assert losses(resumed) == losses(whole)
    assert len(set(losses(whole))) == 8
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_frozen_encoder_gets_no_gradients_or_zeros_for_distributed_runs():
    model = MAE(ViT(dict(width=16, depth=1, heads=2), image_size=16, patch_size=4, fixed_positions=True),
                decoder_width=16, decoder_depth=1, decoder_heads=2)
    images, seeds = torch.randn(2, 3, 16, 16), torch.arange(2)
    trained = model(images, seeds=seeds)[0]
    for zeros in (False, True):
        model.zero_grad()
        model.encoder_frozen, model.zero_gradients = True, zeros
        loss = model(images, seeds=seeds)[0]
        assert torch.equal(loss, trained)
        loss.backward()
        gradients = [p.grad for p in model.encoder.parameters() if p.requires_grad]
        assert all(g is not None and not g.any() for g in gradients) if zeros else gradients == [None] * len(gradients)
        assert all(p.grad.any() for p in model.decoder.parameters() if p.requires_grad)


def test_a_run_that_would_never_train_its_encoder_is_refused(images: Path, tmp_path: Path):
    with pytest.raises(ValueError, match='freeze_encoder_iters=8, but the run has 8 iterations'):
        run(tmp_path, images, **{'model.freeze_encoder_iters': 8})
    with pytest.raises(ValueError, match='freeze_encoder_iters=-1'):
        FreezeEncoderHook(-1)
