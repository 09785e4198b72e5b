"""Preprocessed pixels equal a calculation by hand."""
import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from mae_backbone.models.preprocessor import PixelPreprocessor


def batch(channels: int = 3, dtype: torch.dtype = torch.uint8) -> Tensor:
    top = torch.iinfo(dtype).max + 1
    return torch.randint(top, (4, 6, 8, channels)).to(dtype)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.uint16])
@pytest.mark.parametrize('channels', [1, 3, 16])
def test_images_are_mirrored_and_normalized_per_channel(channels: int, dtype: torch.dtype):
    images, flips = batch(channels, dtype), torch.tensor([True, False, False, True])
    mean, std = torch.rand(channels) * 200, torch.rand(channels) * 50 + 1
    model = MODELS.build(dict(type='mae_backbone.PixelPreprocessor', mean=mean.tolist(), std=std.tolist()))
    found = model(dict(inputs=images, flips=flips, seeds=torch.arange(4)))
    assert set(found) == {'inputs', 'seeds'}
    assert found['inputs'].shape == (4, channels, 6, 8)
    assert found['inputs'].dtype == torch.float32
    for b in range(4):
        pixels = images[b].double()
        wanted = (pixels.flip(1) if flips[b] else pixels).sub(mean).div(std).permute(2, 0, 1).float()
        torch.testing.assert_close(found['inputs'][b], wanted)


def test_a_list_of_images_is_stacked_and_gives_the_same():
    model, images = PixelPreprocessor(mean=[10, 20, 30], std=[1, 2, 3]), batch()
    listed = model(dict(inputs=list(images.permute(0, 3, 1, 2)), data_samples=[None] * 4))
    assert torch.equal(listed['inputs'], model(dict(inputs=images))['inputs'])
    assert listed['data_samples'] == [None] * 4


def test_pixels_stay_without_mean_and_std():
    images = batch()
    assert torch.equal(PixelPreprocessor()(dict(inputs=images))['inputs'], images.permute(0, 3, 1, 2).float())


def test_preprocessor_has_no_state_and_does_not_change_batch():
    model, data = PixelPreprocessor(mean=[1.0], std=[2.0]), dict(inputs=batch(1), flips=torch.ones(4, dtype=torch.bool))
    before = {key: value.clone() for key, value in data.items()}
    model(data)
    assert model.state_dict() == {}
    assert set(data) == set(before)
    assert all(torch.equal(data[key], before[key]) for key in data)


@pytest.mark.parametrize(('mean', 'std', 'says'), [
    ([1.0], None, 'expected both'), ([1.0], [1.0, 2.0], 'expected both'), ([1.0], [0.0], 'does not vary')])
def test_invalid_mean_and_std_are_refused(mean: list | None, std: list | None, says: str):
    with pytest.raises(ValueError, match=says):
        PixelPreprocessor(mean=mean, std=std)


def test_wrong_channels_or_mixed_sizes_are_refused():
    model = PixelPreprocessor(mean=[1.0], std=[1.0])
    with pytest.raises(ValueError, match='images have 3 channels, mean and std have 1'):
        model(dict(inputs=batch(3)))
    with pytest.raises(ValueError, match=r'shapes \[\(1, 4, 4\), \(1, 8, 8\)\].*one size'):
        model(dict(inputs=[torch.zeros(1, 4, 4), torch.zeros(1, 8, 8)]))
