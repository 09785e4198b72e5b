"""UPerHead compared with mmseg's, which enlarges the feature maps before it convolves them."""
import pytest
import torch
import torch.nn.functional as F
from mmseg.models.decode_heads import uper_head
from mmseg.models.utils import resize

from mae_backbone.segmentation.uper_head import UPerHead, _enlarge_and_shift, _hat_functions, convolve_enlarged

pytestmark = pytest.mark.filterwarnings('ignore:When align_corners=True')  # from mmseg, for sizes other than 2^n + 1


@pytest.fixture(params=[False, True], ids=['centers', 'corners'])
def heads(request: pytest.FixtureRequest) -> tuple[UPerHead, uper_head.UPerHead]:
    torch.manual_seed(0)
    options = dict(in_channels=[6, 5, 4, 3], in_index=[0, 1, 2, 3], channels=8, num_classes=7,
                   norm_cfg=dict(type='BN'), align_corners=request.param, dropout_ratio=0.0)
    ours, theirs = UPerHead(**options).double(), uper_head.UPerHead(**options).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize('sizes', [[(16, 24), (8, 12), (4, 6), (2, 3)], [(13, 7), (7, 4), (4, 2), (2, 1)],
                                   [(9, 9)] * 4], ids=['halves', 'odd', 'equal'])
def test_logits_and_gradients_equal_mmsegs(heads: tuple, sizes: list[tuple[int, int]]):
    maps = [torch.randn(2, depth, *size, dtype=torch.double) for depth, size in zip((6, 5, 4, 3), sizes, strict=True)]
    logits, gradients = [], []
    for head in heads:
        given = [feature_map.clone().requires_grad_() for feature_map in maps]
        logits.append(head(given))
        logits[-1].square().sum().backward()
        gradients.append([tensor.grad for tensor in [*given, *head.parameters()] if tensor.grad is not None])
    torch.testing.assert_close(*logits)
    assert len(gradients[0]) > len(maps)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('changed', [dict(norm_cfg=None), dict(act_cfg=None), dict(norm_cfg=None, act_cfg=None)])
def test_head_without_norm_or_activation_equals_mmsegs(changed: dict):
    options = dict(in_channels=[6, 4], in_index=[0, 1], channels=8, num_classes=7, align_corners=False,
                   norm_cfg=dict(type='BN')) | changed
    ours, theirs = UPerHead(**options).double().eval(), uper_head.UPerHead(**options).double().eval()
    for parameter in ours.parameters():  # including biases, which are initialized with zeros
        torch.nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    maps = [torch.randn(1, 6, 8, 8, dtype=torch.double), torch.randn(1, 4, 4, 4, dtype=torch.double)]
    torch.testing.assert_close(ours(maps), theirs(maps))


def test_float32_differs_only_by_rounding(heads: tuple):
    maps = [torch.randn(1, depth, size, size) for depth, size in zip((6, 5, 4, 3), (32, 16, 8, 4), strict=True)]
    ours, theirs = (head.float().eval()(maps) for head in heads)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_zero_padding_follows_the_enlargement():
    weight, maps = torch.randn(5, 4, 3, 3), [torch.ones(1, 2, 8, 8), torch.ones(1, 2, 2, 2)]
    enlarged = torch.cat([resize(feature_map, size=(8, 8), mode='bilinear', align_corners=False)
                          for feature_map in maps], dim=1)
    torch.testing.assert_close(convolve_enlarged(maps, weight, align_corners=False),
                               F.conv2d(enlarged, weight, padding=1))


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(('before', 'after'), [(4, 16), (5, 5), (7, 13), (1, 4), (8, 3)])
def test_matrices_of_an_exported_graph_are_the_same(before: int, after: int, align_corners: bool):
    like = torch.zeros(1, dtype=torch.double)
    expected = _enlarge_and_shift(before, after, like, align_corners)
    torch.testing.assert_close(_hat_functions(before, after, like, align_corners), expected, atol=1e-12, rtol=0)
