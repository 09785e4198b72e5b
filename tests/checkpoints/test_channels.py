"""Patch embeddings and predicted pixels for another number of channels."""
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from mae_backbone.checkpoints.channels import adapt_embedding, adapt_pixels
from mae_backbone.core.patches import patchify


def gray(channels: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 1, 16, 16).expand(-1, channels, -1, -1)


@pytest.mark.parametrize(('before', 'after'), [(3, 1), (3, 6), (12, 3), (4, 7), (1, 3), (5, 5)])
def test_images_with_equal_channels_keep_their_tokens(before: int, after: int):
    weight = torch.randn(8, before, 4, 4)
    tokens = F.conv2d(gray(before), weight, stride=4)
    assert_close(F.conv2d(gray(after), adapt_embedding(weight, after), stride=4), tokens, atol=1e-4, rtol=0)


def test_rgb_is_repeated_for_other_channels():
    weight = torch.randn(8, 3, 4, 4)
    adapted = adapt_embedding(weight, 4)
    assert_close(adapted, weight[:, [0, 1, 2, 0]] * 3 / 4)


@pytest.mark.parametrize(('before', 'after'), [(3, 6), (3, 1), (4, 3), (3, 3)])
def test_predicted_pixels_of_gray_images_stay_gray(before: int, after: int):
    values = patchify(gray(before), 4)[0].T                            # (P, L), a patch in each column
    wanted = patchify(gray(after), 4)[0].T
    assert_close(adapt_pixels(values, 4, after), wanted)
    assert adapt_pixels(values[:, 0], 4, after).shape == (16 * after,)  # a bias


def test_predicted_rgb_is_repeated():
    images = torch.randn(1, 3, 8, 8)
    values = adapt_pixels(patchify(images, 4)[0].T, 4, 5)
    assert_close(values, patchify(images[:, [0, 1, 2, 0, 1]], 4)[0].T)
