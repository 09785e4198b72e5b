"""Anchors, points, boxes and crops are those of mmdet, for any size of the maps."""
import mae_backbone  # noqa: F401  installs the ops that mmdet imports
import pytest
import torch
from mae_backbone.export.boxes import best, decode_deltas, decode_distances, grid_anchors, grid_points
from mae_backbone.export.regions import RegionFeatures

SIZE = 50, 70


@pytest.mark.parametrize('size', [(4, 7), (1, 3)])
def test_anchors(size):
    from mmdet.models.task_modules import AnchorGenerator
    generator = AnchorGenerator(strides=[8, 16], ratios=[0.5, 1.0, 2.0], scales=[4, 8])
    for i in (0, 1):
        expected = generator.single_level_grid_priors(size, i, device='cpu')
        torch.testing.assert_close(grid_anchors(generator.base_anchors[i], size, generator.strides[i]), expected)


@pytest.mark.filterwarnings('ignore:torch.meshgrid')  # of mmdet's generator
def test_points():
    from mmdet.models.task_modules import MlvlPointGenerator
    generator = MlvlPointGenerator([8, 16])
    expected = generator.single_level_grid_priors((3, 5), 1, device='cpu')
    torch.testing.assert_close(grid_points((3, 5), generator.strides[1], generator.offset, torch.zeros(1)), expected)


@pytest.mark.parametrize('clip_border', [True, False])
def test_decoding(clip_border):
    from mmdet.models.task_modules import DeltaXYWHBBoxCoder, DistancePointBBoxCoder
    torch.manual_seed(0)
    corners = torch.rand(2, 30, 2) * 40
    boxes = torch.cat([corners, corners + torch.rand(2, 30, 2) * 40], dim=2)
    deltas, distances = 4 * torch.randn(2, 30, 4), 30 * torch.rand(2, 30, 4)
    coder = DeltaXYWHBBoxCoder(target_means=(0.1, 0.0, 0.2, 0.0), target_stds=(0.1, 0.2, 0.9, 1.0),
                               clip_border=clip_border)
    expected = torch.stack([coder.decode(boxes[i], deltas[i], max_shape=SIZE) for i in (0, 1)])
    torch.testing.assert_close(decode_deltas(coder, boxes, deltas, SIZE), expected)
    coder = DistancePointBBoxCoder(clip_border=clip_border)
    expected = torch.stack([coder.decode(corners[i], distances[i], max_shape=SIZE) for i in (0, 1)])
    torch.testing.assert_close(decode_distances(coder, corners, distances, SIZE), expected)


@pytest.mark.parametrize('levels', [1, 3])
def test_crops(levels):
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
    torch.manual_seed(0)
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=3, sampling_ratio=0), 5,
                                   [4, 8, 16][:levels], finest_scale=8)
    maps = [torch.randn(2, 5, 32 // 2**i, 48 // 2**i) for i in range(levels)]
    corners = torch.rand(40, 2) * 60
    regions = torch.cat([torch.randint(2, (40, 1)), corners, corners + torch.rand(40, 2) ** 3 * 100], dim=1)
    if levels > 1:
        assert len(extractor.map_roi_levels(regions, levels).unique()) == levels
    torch.testing.assert_close(RegionFeatures(extractor)(maps, regions), extractor(maps, regions))


def test_best_fills_up_with_no_box():
    scores, index = best(torch.tensor([[0.2, 0.7, -1.0]]), 5)
    assert scores.tolist() == [pytest.approx([0.7, 0.2, -1.0, -1.0, -1.0])]
    assert index.max() < 3
