"""Crops of feature maps around boxes, from the level that fits the size of each box."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align


class RegionFeatures(nn.Module):
    """The `SingleRoIExtractor` of mmdet, for torch.export: RoIAlign on one level for each box.

    In ONNX it is RoiAlign with `half_pixel` coordinates, which subtract half a pixel as mmdet's `aligned=True` does,
    and with an adaptive number of samples where mmdet's `sampling_ratio` is 0.

    Args:
        extractor: mmdet's.
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor: Any = extractor

    def forward(self, maps: Sequence[Tensor], regions: Tensor) -> Tensor:
        """maps (B, C, h, w) of each level and regions (N, 5), image index and box -> (N, C, size, size)."""
        layers = self.extractor.roi_layers
        maps = maps[:len(layers)]
        if len(maps) == 1:
            return _crop(layers[0], maps[0], regions)
        levels = self.extractor.map_roi_levels(regions, len(maps))
        crops = [_crop(layer, level, regions[(levels == i).nonzero()[:, 0]])
                 for i, (layer, level) in enumerate(zip(layers, maps, strict=True))]
        return torch.cat(crops)[_places(levels, len(maps))]


def _places(levels: Tensor, count: int) -> Tensor:
    """levels (N,), numbers below `count` -> (N,), the place of each one in a list that is sorted by level.

    A stable sort and its inverse, as sums, so that the result has N numbers for torch.export, regardless of the levels.
    """
    of_level = (levels[:, None] == torch.arange(count, device=levels.device)).long()  # (N, count)
    total = of_level.sum(0)
    return ((of_level.cumsum(0) - 1 + total.cumsum(0) - total) * of_level).sum(1)


def _crop(layer: Any, level: Tensor, regions: Tensor) -> Tensor:
    size: tuple[int, int] = layer.output_size
    return roi_align(level, regions, size, layer.spatial_scale, layer.sampling_ratio, layer.aligned)
