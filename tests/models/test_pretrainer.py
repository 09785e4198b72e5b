"""MAE pretraining under MMEngine's Runner."""
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.core.masking import Mask, mask_from_noise
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.utils import device_scalars


def build(**encoder) -> MAEPretrainer:
    return MODELS.build(dict(
        type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
        encoder=dict(arch=dict(width=32, depth=2, heads=2), image_size=32, patch_size=8, **encoder),
        data_preprocessor=dict(type='ImgDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)))


def batch(size: tuple[int, int] = (32, 32)) -> dict:
    return dict(inputs=[torch.randint(256, (3, *size), dtype=torch.uint8) for _ in range(4)], data_samples=[None] * 4)


def test_a_training_step_trains_all_but_the_positions():
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    assert model.train_step(batch(), optimizer) == {}, 'MMEngine would wait for the device to log it'
    assert len(device_scalars.drain()['loss']) == 1
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {'mae.encoder.pos_embed', 'mae.decoder.decoder_pos_embed'}


def test_loss_equals_the_mae_on_normalized_pixels():
    model, data = build(), batch()
    inputs = model.data_preprocessor(data, training=True)['inputs']
    assert_close(inputs, (torch.stack(data['inputs']).float() - 120) / 60)
    torch.manual_seed(1)
    wanted, _, mask = model.mae(inputs)
    torch.manual_seed(1)
    assert torch.equal(model(inputs, mode='loss')['loss'], wanted)
    assert mask.ids_visible.shape == (4, 4)


@pytest.mark.parametrize('size', [(32, 32), (24, 40)])
def test_features_are_the_mean_of_all_patch_tokens(size: tuple[int, int]):
    model = build().eval()
    inputs = model.data_preprocessor(batch(size))['inputs']
    encoder = model.mae.encoder
    tokens = encoder.encode(encoder.embed(inputs))
    assert_close(model(inputs, mode='tensor'), tokens[:, 1:].mean(1))
    assert torch.equal(model(inputs, mode='tokens'), tokens)


def test_predict_share_is_accepted_as_predict_ratio():
    options = dict(encoder=dict(arch=dict(width=8, depth=1, heads=1), image_size=16, patch_size=8), decoder_width=8,
                   decoder_depth=1, decoder_heads=1)
    assert MAEPretrainer(**options).mae.predict_ratio == 1
    assert MAEPretrainer(**options, predict_ratio=0.5).mae.predict_ratio == 0.5
    assert MAEPretrainer(**options, predict_share=0.5).mae.predict_ratio == 0.5


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match=r"mode='predict'.*expected 'loss', 'tokens', 'tensor' or 'reconstruct'"):
        build()(torch.zeros(1, 3, 32, 32), mode='predict')


# ---- masks

def pretrainer(**options) -> MAEPretrainer:
    return MODELS.build(dict(
        type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2, **options,
        encoder=dict(arch=dict(width=32, depth=2, heads=2), image_size=32, patch_size=8),
        data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)))


@pytest.mark.parametrize('name', ['RandomMasking', 'BlockMasking', 'GridMasking'])
def test_masking_of_config_takes_mask_ratio(name: str):
    model = pretrainer(mask_ratio=0.6, masking=dict(type=f'mae_backbone.{name}'))
    assert (type(model.mae.masking).__name__, model.mae.mask_ratio) == (name, 0.6)
    assert pretrainer(masking=dict(type=f'mae_backbone.{name}', ratio=0.5)).mae.mask_ratio == 0.5


def test_user_masks_can_be_registered():
    @MODELS.register_module(force=True)
    class FirstPatches:
        def __init__(self, ratio: float) -> None:
            self.ratio = ratio

        def __call__(self, noise: Tensor, grid: tuple[int, int]) -> Mask:
            return mask_from_noise(torch.arange(noise.shape[1]).expand_as(noise), self.ratio)
    model = pretrainer(masking=dict(type='FirstPatches'))
    assert model.mae(torch.zeros(2, 3, 32, 32))[2].ids_visible.tolist() == [[0, 1, 2, 3]] * 2


def test_seeds_flips_and_weights_of_a_batch_reach_the_loss():
    model = pretrainer()
    images, seeds = torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8), torch.arange(4)
    flips, weights = torch.tensor([True, False] * 2), torch.tensor([2.0, 2.0, 0.0, 0.0])
    data = model.data_preprocessor(dict(inputs=images, seeds=seeds, flips=flips, weights=weights), training=True)
    loss = model(**data, mode='loss')['loss']
    shown = torch.stack([images[0].flip(1), images[1]]).permute(0, 3, 1, 2)
    assert_close(loss, model.mae((shown - 120.0) / 60, seeds=seeds[:2])[0], atol=1e-6, rtol=0)


# ---- torch.compile

def test_parts_are_compiled_before_the_first_step_of_a_training(caplog: pytest.LogCaptureFixture):
    model = pretrainer(compile='auto')
    model.compile_options = dict(backend='eager')
    model.eval()(torch.zeros(2, 3, 32, 32), mode='loss')
    assert not model.compile_decided
    model.train()(torch.zeros(2, 3, 32, 32), mode='loss')
    assert (model.compile_decided, model.mae.compiled) == (True, None), 'no gain on a CPU'
    with pytest.raises(ValueError, match="compile='yes'"):
        pretrainer(compile='yes')
