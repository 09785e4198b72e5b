"""Head of a dense linear probe."""
import pytest
import torch
from mmseg.registry import MODELS
from torch import nn
from torch.testing import assert_close

from mae_backbone.segmentation.linear_head import LinearHead

pytestmark = pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')  # of mmseg's default loss


def head(**options) -> LinearHead:
    return MODELS.build(dict(type='mae_backbone.LinearHead', in_channels=6, channels=6, num_classes=3, in_index=1,
                             dropout_ratio=0.0) | options)


def test_output_is_a_linear_layer_on_normalized_patches():
    probe, maps = head().train(), [torch.randn(2, 5, 4, 4), 3 + 2 * torch.randn(2, 6, 4, 5)]
    mean, deviation = maps[1].mean((0, 2, 3)), maps[1].std((0, 2, 3), correction=0)
    patches = (maps[1].movedim(1, -1) - mean) / deviation
    expected = nn.functional.linear(patches, probe.conv_seg.weight[:, :, 0, 0], probe.conv_seg.bias)
    assert_close(probe(maps), expected.movedim(-1, 1), atol=1e-5, rtol=1e-5)


def test_only_the_linear_layer_has_parameters():
    assert {name for name, _ in head().named_parameters()} == {'conv_seg.weight', 'conv_seg.bias'}


def test_channels_that_differ_from_the_map_are_refused():
    with pytest.raises(ValueError, match='channels=8, but its feature map has in_channels=6'):
        LinearHead(in_channels=6, channels=8, num_classes=3)
