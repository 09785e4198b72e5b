"""The simple feature pyramid against the public ViTDet code; its strides."""
import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.models.pyramid import Rescale, SimpleFeaturePyramid


def test_levels_equal_public_vitdet(golden_vitdet: dict[str, Tensor]):
    pyramid = SimpleFeaturePyramid(32, out_channels=16)
    pyramid.load_state_dict({key.removeprefix('model.'): value for key, value in golden_vitdet.items()
                             if key.startswith('model.simfp')})
    levels = pyramid([golden_vitdet['last_feat']])
    assert len(levels) == 5
    for i, level in enumerate(levels):
        assert_close(level, golden_vitdet[f'p{i + 2}'], atol=1e-5, rtol=0)


@pytest.mark.parametrize(('input_stride', 'strides', 'extra_levels'), [
    (16, (4, 8, 16, 32), 1), (8, (4, 8, 16, 32), 0), (8, (1, 2, 8, 64), 2), (16, (16,), 0), (4, (32, 4), 1),
])
def test_every_level_has_its_stride(input_stride: int, strides: tuple[int, ...], extra_levels: int):
    pyramid = SimpleFeaturePyramid(32, out_channels=8, input_stride=input_stride, strides=strides,
                                   extra_levels=extra_levels)
    size = 128, 192
    levels = pyramid([torch.randn(2, 32, *(side // input_stride for side in size))])
    strides += tuple(strides[-1] * 2 ** (i + 1) for i in range(extra_levels))
    assert [tuple(level.shape) for level in levels] == [(2, 8, *(-(-side // stride) for side in size))
                                                        for stride in strides]


def test_last_map_is_used_and_all_but_extra_levels_normalized():
    pyramid = SimpleFeaturePyramid(32, out_channels=8)
    maps = [torch.randn(1, 32, 4, 4) for _ in range(2)]
    levels = pyramid(maps)
    assert all(torch.equal(a, b) for a, b in zip(levels, pyramid(maps[-1:]), strict=True))
    for level in levels:
        assert_close(level.mean(1), torch.zeros_like(level[:, 0]), atol=1e-5, rtol=0)
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])


def test_convolutions_start_as_in_detectron2():
    weight = SimpleFeaturePyramid(64, out_channels=64).simfp_4[1].weight
    assert weight.std().item() == pytest.approx((1 / (3 * 9 * 64)) ** 0.5, rel=0.05)  # PyTorch's default


def test_every_parameter_gets_a_gradient():
    pyramid = SimpleFeaturePyramid(16, out_channels=8)
    sum((level * torch.randn_like(level)).sum() for level in pyramid([torch.randn(1, 16, 4, 4)])).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in pyramid.parameters())


def test_calibration_removes_shared_mean():
    plain, calibrated = (SimpleFeaturePyramid(16, out_channels=8, calibrate=value) for value in (False, True))
    calibrated.load_state_dict(plain.state_dict(), strict=False)
    maps = torch.randn(4, 16, 8, 8)
    standard = (maps - maps.mean((0, 2, 3), keepdim=True)) / maps.std((0, 2, 3), correction=0, keepdim=True)
    shift, scale = torch.randn(1, 16, 1, 1) * 100, torch.rand(1, 16, 1, 1) + 0.5
    for level, wanted in zip(calibrated([maps * scale + shift]), plain([standard]), strict=True):
        assert_close(level, wanted, atol=1e-3, rtol=0)
    assert plain.state_dict().keys() == {name for name, _ in calibrated.named_parameters()}


@pytest.mark.parametrize(('input_stride', 'strides'), [
    (14, (4, 8)), (16, (4, 12)), (16, (0,)), (16, (-4,)), (0, (4,)), (16, (2.5,))])
def test_strides_that_are_no_power_of_two_from_the_input_are_refused(input_stride: int, strides: tuple):
    with pytest.raises(ValueError, match=rf'input_stride={input_stride}.*every stride must be the input stride'):
        SimpleFeaturePyramid(32, input_stride=input_stride, strides=strides)


def test_both_are_built_from_a_config():
    pyramid = MODELS.build(dict(type='mae_backbone.SimpleFeaturePyramid', in_channels=16, out_channels=8))
    assert isinstance(pyramid, SimpleFeaturePyramid)
    norm = MODELS.build(dict(type='mae_backbone.LayerNorm2d', num_channels=8, eps=1e-6))
    x = torch.randn(2, 8, 3, 3)
    assert_close(norm(x), nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,), eps=1e-6).permute(0, 3, 1, 2))


@pytest.mark.parametrize('narrowing', [True, False])
def test_rescaled_maps_have_given_strides(narrowing: bool):
    rescale = Rescale(64, strides=(4, 8, 16, 32), narrowing=narrowing, norm='GN' if not narrowing else 'LN')
    maps = [torch.randn(2, 64, 4, 6) for _ in range(4)]
    levels = rescale(maps)
    channels = [16, 32, 64, 64] if narrowing else [64] * 4
    assert [tuple(level.shape) for level in levels] == [
        (2, c, 16 // 2**i, 24 // 2**i) for i, c in enumerate(channels)]
    assert rescale.out_channels == channels
    assert torch.equal(levels[2], maps[2])
    assert torch.equal(levels[3], nn.functional.max_pool2d(maps[3], 2))
    first, norm, _, second = rescale.levels[0]
    wanted = second(nn.functional.gelu(norm(first(maps[0]))))
    assert_close(levels[0], wanted)


def test_one_map_serves_all_levels():
    rescale, last = Rescale(64), torch.randn(1, 64, 4, 4)
    assert all(torch.equal(a, b) for a, b in zip(rescale([last]), rescale([last] * 4), strict=True))
    with pytest.raises(ValueError, match='3 maps for 4 levels: set out_indices'):
        rescale([last] * 3)


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm='BN', expected one of LN, GN"):
        Rescale(64, norm='BN')


def test_pyramid_of_patches_of_14_pixels():
    """As for 16 pixels: the same layers, and levels that halve and double the map."""
    pyramid = SimpleFeaturePyramid(8, out_channels=4, input_stride=14, strides=(3.5, 7, 14, 28))
    assert pyramid.names == ['simfp_1', 'simfp_2', 'simfp_3', 'simfp_4']
    assert [level.shape[-1] for level in pyramid([torch.zeros(1, 8, 6, 6)])] == [24, 12, 6, 3, 2]


@pytest.mark.parametrize('strides', [(8, 8), (0.5, 1.0, 0.25, 0.5)])
def test_levels_that_would_share_their_layers_are_refused(strides: tuple):
    with pytest.raises(ValueError, match='two levels would share the layers'):
        SimpleFeaturePyramid(64, out_channels=8, input_stride=8, strides=strides)
