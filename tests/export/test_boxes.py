"""Anchors, points, boxes and crops are those of mmdet, for any size of the maps."""
import pytest
import torch

import mae_backbone  # noqa: F401  installs the ops that mmdet imports
from mae_backbone.export.boxes import anchors, best, corners, decode_deltas, decode_distances
from mae_backbone.export.regions import RegionFeatures

SIZE = 50, 70


def _indices(sizes: list[tuple[int, int]], each: int) -> torch.Tensor:
    """All indices of two levels, each filled up with zeros: (1, 2, K)."""
    counts = [h * w * each for h, w in sizes]
    return torch.stack([torch.arange(max(counts)) * (torch.arange(max(counts)) < count) for count in counts])[None]


def test_anchors():
    from mmdet.models.task_modules import AnchorGenerator
    generator, sizes = AnchorGenerator(strides=[8, 16], ratios=[0.5, 1.0, 2.0], scales=[4, 8]), [(4, 7), (1, 3)]
    found = anchors(_indices(sizes, 6), [w for _, w in sizes], torch.tensor(generator.strides, dtype=torch.float32),
                    torch.stack(generator.base_anchors))
    for i, size in enumerate(sizes):
        expected = generator.single_level_grid_priors(size, i, device='cpu')
        torch.testing.assert_close(found[0, i, :len(expected)], expected)


@pytest.mark.filterwarnings('ignore:torch.meshgrid')  # of mmdet's generator
def test_points():
    from mmdet.models.task_modules import MlvlPointGenerator
    generator, sizes = MlvlPointGenerator([8, 16]), [(6, 5), (3, 5)]
    found = corners(_indices(sizes, 1), [w for _, w in sizes], torch.tensor(generator.strides, dtype=torch.float32),
                    generator.offset)
    for i, size in enumerate(sizes):
        expected = generator.single_level_grid_priors(size, i, device='cpu')
        torch.testing.assert_close(found[0, i, :len(expected)], expected)


@pytest.mark.parametrize('clip_border', [True, False])
def test_decoding(clip_border):
    from mmdet.models.task_modules import DeltaXYWHBBoxCoder, DistancePointBBoxCoder
    torch.manual_seed(0)
    points = torch.rand(2, 30, 2) * 40
    boxes = torch.cat([points, points + torch.rand(2, 30, 2) * 40], dim=2)
    deltas, distances = 4 * torch.randn(2, 30, 4), 30 * torch.rand(2, 30, 4)
    coder = DeltaXYWHBBoxCoder(target_means=(0.1, 0.0, 0.2, 0.0), target_stds=(0.1, 0.2, 0.9, 1.0),
                               clip_border=clip_border)
    expected = torch.stack([coder.decode(boxes[i], deltas[i], max_shape=SIZE) for i in (0, 1)])
    torch.testing.assert_close(decode_deltas(coder, boxes, deltas, SIZE), expected)
    coder = DistancePointBBoxCoder(clip_border=clip_border)
    expected = torch.stack([coder.decode(points[i], distances[i], max_shape=SIZE) for i in (0, 1)])
    torch.testing.assert_close(decode_distances(coder, points, distances, SIZE), expected)


@pytest.mark.parametrize('levels', [1, 3])
def test_crops(levels):
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
    torch.manual_seed(0)
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=3, sampling_ratio=0), 5,
                                   [4, 8, 16][:levels], finest_scale=8)
    maps = [torch.randn(2, 5, 32 // 2**i, 48 // 2**i) for i in range(levels)]
    points = torch.rand(40, 2) * 60
    regions = torch.cat([torch.randint(2, (40, 1)), points, points + torch.rand(40, 2) ** 3 * 100], dim=1)
    if levels > 1:
        assert len(extractor.map_roi_levels(regions, levels).unique()) == levels
    torch.testing.assert_close(RegionFeatures(extractor)(maps, regions), extractor(maps, regions))


def test_best_fills_up_with_no_box():
    scores, index = best(torch.tensor([[0.2, 0.7, -1.0]]), 5)
    assert scores.tolist() == [pytest.approx([0.7, 0.2, -1.0, -1.0, -1.0])]
    assert index.max() < 3


def test_the_first_ones_of_equal_scores_are_best():
    scores = torch.tensor([0.5, 0.9, 0.5]).repeat(40)[None]
    values, index = best(scores, 60)
    assert values.tolist() == [pytest.approx([0.9] * 40 + [0.5] * 20)]
    assert index.tolist() == [[*range(1, 120, 3), *(i for i in range(120) if i % 3 != 1)][:60]]
