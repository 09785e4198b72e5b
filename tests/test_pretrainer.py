"""MAE pretraining as MMEngine's Runner drives it."""
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch.testing import assert_close

from mae_backbone import device_log
from mae_backbone.pretrainer import MAEPretrainer


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
    assert len(device_log.drain()['loss']) == 1
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {'mae.encoder.pos_embed', 'mae.decoder.decoder_pos_embed'}


def test_loss_is_that_of_the_mae_on_normalised_pixels():
    model, data = build(), batch()
    inputs = model.data_preprocessor(data, training=True)['inputs']
    assert_close(inputs, (torch.stack(data['inputs']).float() - 120) / 60)
    torch.manual_seed(1)
    wanted, _, mask = model.mae(inputs)
    torch.manual_seed(1)
    assert torch.equal(model(inputs, mode='loss')['loss'], wanted)
    assert mask.keep.shape == (4, 4)


@pytest.mark.parametrize('size', [(32, 32), (24, 40)])
def test_features_are_the_mean_of_all_patch_tokens(size: tuple[int, int]):
    model = build().eval()
    inputs = model.data_preprocessor(batch(size))['inputs']
    encoder = model.mae.encoder
    tokens = encoder.encode(encoder.embed(inputs))
    assert_close(model(inputs, mode='tensor'), tokens[:, 1:].mean(1))


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match=r"mode='predict'.*wanted 'loss' or 'tensor'"):
        build()(torch.zeros(1, 3, 32, 32), mode='predict')
